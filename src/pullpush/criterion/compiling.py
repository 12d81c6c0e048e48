"""Compilation, where there is a compiler."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from pullpush.signatures import of

__all__ = ["Compiled", "computed_again"]

log = logging.getLogger("pullpush")

# The masks follow from labels and ids: computing them again in every loop is faster than keeping them as bools.
INDUCTOR: dict[str, str | int | bool | Callable[..., Any]] = {
    "realize_reads_threshold": 1000,
    "realize_acc_reads_threshold": 1000,
    "realize_opcount_threshold": 10000,
}


class Compiled:
    """A function, compiled at its first call; as it is, with a line in the log, where that can't be done.

    A second size of batch makes the sizes symbolic, so that no third one compiles again.

    Args:
        function: is called in its place.
        what: it is, for the log.
        whole: as one graph, as the criterion needs it; else with breaks where something can't be compiled.
    """

    def __init__(self, function: Callable[..., Any], what: str = "criterion", whole: bool = True) -> None:
        self.function, self.what, self.whole = function, what, whole
        # Calls checkpointing within a compiled graph experimental, once a process; it is tested here.
        logging.getLogger("torch._higher_order_ops.wrap").setLevel(logging.ERROR)
        # Each criterion counts its own recompilations.
        known = of(torch.compile).options
        own: Any = {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
        own |= {"fullgraph": True, "options": INDUCTOR} if whole else {}
        self.compiled: Callable[..., Any] | None = torch.compile(function, **own)

    def __call__(self, *args: Any) -> Any:
        """`function(*args)`."""
        if self.compiled is not None:
            try:
                return self.compiled(*args)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                inner = error.inner_exception  # of which torch 2.9 says nothing in its first line
                reason = f"{type(inner).__name__}: {inner}".splitlines()[0]
                log.warning("no compilation of the %s, it runs as it is: %s", self.what, reason)
                self.compiled = None
        return self.function(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Compiled":
        return Compiled(self.function, self.what, self.whole)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.function, self.what, self.whole)


def computed_again(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, whose cells a compiled graph computes again for the gradient instead of keeping them.

    Left to itself the compiler keeps masks, as they are small. Writing and reading bools takes it ten times as long as
    computing them from labels and ids. What is computed row by row, or by an operator of our own, is kept.
    """
    if not torch.compiler.is_compiling():
        return function(*args)
    contexts = partial(create_selective_checkpoint_contexts, _policy)
    return checkpoint(function, *args, use_reentrant=False, context_fn=contexts)


def _policy(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    cell = isinstance(op, torch._ops.OpOverload) and (
        torch.Tag.pointwise in op.tags or op.is_view or op is torch.ops.aten._to_copy.default
    )
    return CheckpointPolicy.PREFER_RECOMPUTE if cell else CheckpointPolicy.MUST_SAVE
