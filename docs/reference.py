"""What griffe can't read in the source by itself: names that a module gathers when it is imported, and functions whose
options are chosen first."""

import re
from typing import Any

import griffe

__all__ = ["Reference"]

GATHERED = ("losses", "miners", "regularizers")
KINDS = {"loss": "Loss", "miner": "Miner", "regularizer": "Choice[AnchorLoss]", "relation": "Choice[Tensor | Pairs]"}


class Reference(griffe.Extension):
    """Losses and their like as a person makes them: `circle(*, margin=0.4)`, without the rectangle of later calls."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Those that gather export what their stubs name."""
        for name in GATHERED:
            pkg[name].exports = sorted(set(pkg[name].members) - {"REGISTRY", "__all__"})

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Parameters that are no options leave the signature and the docstring."""
        kinds = [KINDS.get(str(each.value).partition("(")[0]) for each in func.decorators]
        if not any(kinds):
            return
        options = [each for each in func.parameters if each.kind is griffe.ParameterKind.keyword_only]
        given = [each.name for each in func.parameters if each not in options]
        func.parameters = griffe.Parameters(*options)
        func.returns = next(kind for kind in kinds if kind)
        if func.docstring:
            func.docstring.value = of_options(func.docstring.value, given)


def of_options(doc: str, given: list[str]) -> str:
    """A docstring without what it says of some arguments, and without what the later call returns."""
    doc = re.sub(rf"^    (?:{'|'.join(given)}):.*\n(?:        .*\n)*", "", doc, flags=re.MULTILINE)
    return re.sub(r"^(?:Args:\n(?=\n|\Z)|Returns:\n(?:    .*\n?|\n(?=    ))*)\n?", "", doc, flags=re.MULTILINE)
