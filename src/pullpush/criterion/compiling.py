"""Compilation, where there is a compiler."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Compiled"]

log = logging.getLogger("pullpush")

# The masks follow from labels and ids: computing them again in every loop is faster than keeping them as bools.
INDUCTOR = {
    "realize_reads_threshold": 1000,
    "realize_acc_reads_threshold": 1000,
    "realize_opcount_threshold": 10000,
}


class Compiled:
    """A function, compiled as one graph at its first call; as it is, with a line in the log, where that can't be done.

    A second size of batch makes the sizes symbolic, so that no third one compiles again.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        # Each criterion counts its own recompilations.
        known = inspect.signature(torch.compile).parameters
        own = {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
        self.compiled: Callable[..., Any] | None = torch.compile(function, fullgraph=True, options=INDUCTOR, **own)

    def __call__(self, *args: Any) -> Any:
        """`function(*args)`."""
        if self.compiled is not None:
            try:
                return self.compiled(*args)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                reason = str(error).strip().splitlines()[0]
                log.warning("no compilation of the criterion, it runs as it is: %s", reason)
                self.compiled = None
        return self.function(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Compiled":
        return Compiled(self.function)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.function,)
