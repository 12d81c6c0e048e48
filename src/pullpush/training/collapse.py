"""What a run does about a collapse that lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pullpush.doctor.declaration import Symptom, Value, advise, possible
from pullpush.doctor.findings.collapse import collapse
from pullpush.doctor.measures import Measures
from pullpush.progress import say
from pullpush.training.callbacks import Callback
from pullpush.training.monitor import Monitor

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Collapse", "OnCollapse"]

# Looks in a row at which it is seen: some collapses pass by themselves.
LASTING = 3
# What must be lost of what the untrained model finds: a hundredth more or less is chance.
LOST = 0.1


@dataclass(frozen=True)
class Collapse:
    """A collapse that a run did something about.

    Attributes:
        step: at which it was taken to last.
        then: what the run did, or is about to do.
        options: with which it is to begin again, by name.
        since: step of the healthy weights from which it began again.
    """

    step: int
    then: Literal["stopped", "restarting", "restarted"]
    options: Mapping[str, Value] = field(default_factory=dict)
    since: int = 0

    @property
    def ends(self) -> bool:
        """Whether no further step is to be done as the run is."""
        return self.then != "restarted"


class OnCollapse(Callback):
    """Ends a run whose embeddings have collapsed at several looks in a row and find clearly less than the untrained
    model.

    Args:
        monitor: of the run, which has looked just before.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def on_look(self, run: Run, step: int, validated: bool) -> None:
        symptom = None if run.config.on_collapse == "warn" else self._lasting()
        # Each process has looked at a batch of its own; the first one decides.
        if not run.fabric.broadcast(symptom is not None):
            return
        if len(run.task.splits["validation"]):
            if not validated:
                run.tell("on_validate", step)
            (_, start), *_, (_, last) = self.monitor.history.validations
            if last >= (1 - LOST) * start:
                return
        objective = self.monitor.objective
        options = run.fabric.broadcast(possible(objective, next(iter(symptom.cures))) if symptom else {})
        again = run.config.on_collapse == "restart" and run.collapse is None and options
        then: Literal["stopped", "restarting"] = "restarting" if again else "stopped"
        before = run.collapse or Collapse(step, then, options)
        run.collapse = replace(before, step=step, then=then)
        cure = "" if again or symptom is None else f" {advise(objective, *symptom.cures)}"
        say(f"step {step}: the embeddings have collapsed, and the run ends here.{cure}", style="bold red")

    def _lasting(self) -> Symptom | None:
        """What is seen of the collapse at the last look, where it is seen at those before it too."""
        looks = self.monitor.history.looks[-LASTING:]
        seen = [collapse.function(Measures(look), self.monitor.objective) for look in looks]
        return seen[-1] if len(seen) == LASTING and all(seen) else None
