"""What the doctor can find. One theme a file; `FINDINGS` holds every declaration in a file's `__all__`.

    @finding("warning", seen="what is measured, and its threshold", cure="what mends it")
    def NAME(m: Measures, o: Objective) -> Symptom | None:
        \"\"\"What it means, in a sentence or two.\"\"\"

Order, explanations of one finding by another, the page, the figures and docs/doctor.md follow from the declarations.
"""

from pullpush.doctor.declaration import Declaration
from pullpush.maths.registry import collect

__all__ = ["FINDINGS"]

FINDINGS: dict[str, Declaration] = {
    name: each for name, each in collect(__name__, __path__, skip=set()).items() if isinstance(each, Declaration)
}
