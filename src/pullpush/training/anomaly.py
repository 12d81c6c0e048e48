"""The first tensor that was not finite, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pullpush.runs.checkpoint import LAST, STATE, load_checkpoint, not_of_this_run
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["FirstBadTensor"]


class FirstBadTensor(Callback):
    """Where the loss is no number: does the steps since the last checkpoint again, and looks at every tensor."""

    def on_not_finite(self, run: Run, step: int) -> None:
        if run.fabric.world_size > 1:
            return
        with not_of_this_run(run.folder / LAST):
            run.load(load_checkpoint(run.folder / LAST, STATE))
        batches = run.task.batches(run.step)
        with watched(run.task.step) as first_bad:
            for again in range(run.step + 1, step + 1):
                run.do(again, next(batches))
                if name := first_bad():
                    run.not_finite = f"{name} at step {again}"
                    return


@contextmanager
def watched(module: nn.Module) -> Iterator[Callable[[], str]]:
    """Meanwhile each input, each output of each module in it, and its gradient are looked at, which is slow.

    What it yields looks at the weights too, and gives the name of the first tensor that was not finite, such as
    "output of encode.head", or nothing.
    """
    bad: list[str] = []

    def look(name: str, value: Any) -> None:
        if not bad and isinstance(value, Tensor) and value.is_floating_point() and not value.detach().isfinite().all():
            bad.append(name)

    def first_bad() -> str:
        for name, parameter in module.named_parameters():
            look(f"weights {name}", parameter)
        return bad[0] if bad else ""

    def inputs(module: nn.Module, args: tuple[Any, ...]) -> None:
        for place, value in enumerate(args[0]):
            look(f"input {place}", value)

    def outputs(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for value in output if isinstance(output, tuple | list) else (output,):
                look(f"output of {name}", value)
                if isinstance(value, Tensor) and value.requires_grad:
                    value.register_hook(lambda gradient: look(f"gradient of the output of {name}", gradient))

        return hook

    first_bad()
    with ExitStack() as hooks:
        hooks.enter_context(module.register_forward_pre_hook(inputs))
        for name, part in module.named_modules():
            hooks.enter_context(part.register_forward_hook(outputs(name or "the loss")))
        yield first_bad
