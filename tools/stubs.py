"""Writes the stubs of `pullpush.losses`, `miners` and `regularizers`, by which editors and type checkers know them.

The modules take whatever their rooms hold when they are imported; a new loss is one new file, and this command.

    python tools/stubs.py
"""

from importlib import import_module
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "pullpush"


def stub(kind: str) -> str:
    """Text of a stub: a line a name."""
    known = import_module(f"pullpush.maths.{kind}").REGISTRY
    lines = [f"from {known[name].__module__} import {name} as {name}" for name in sorted(known)]
    return "\n".join(["# Written by tools/stubs.py.", *sorted(lines)]) + "\n"


def main() -> None:
    for kind in ("losses", "miners", "regularizers"):
        (PACKAGE / f"{kind}.pyi").write_text(stub(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
