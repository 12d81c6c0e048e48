"""pullpush train"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from pullpush.cli.reports import report
from pullpush.errors import UserError
from pullpush.extras import missing
from pullpush.progress import showing
from pullpush.signatures import Option
from pullpush.words import help_of, typed

__all__ = ["train"]

USAGE = "pullpush train [--data FOLDER] [--OPTION VALUE ...]"
ABOUT = """\
Trains a model that brings images of one class close together, tests it on classes that it has never seen, and draws \
a report. Nothing has to be set."""
EXAMPLES = """\
pullpush train                                   the built-in emoji images
pullpush train --data photos/ --out runs/photos  photos/CLASS/*.jpg
pullpush train --data photos/ --minutes 10       what fits into this time here
pullpush train --data photos/ --live             watch it in the browser
pullpush train --data items.csv --encoder resnet50 --encoder.size 224 --batch.classes 16
pullpush train --loss circle --loss.margin 0.4 --loss.scale 80 --memory 4096
pullpush train --task image-text                 images with their texts, in one space
pullpush train --config runs/photos/config.yaml --seed 1 --out runs/photos-1
pullpush train --resume runs/photos              go on after Ctrl-C, a kill or a power cut
pullpush train --loss circle --help              with the options of that loss"""
# What people set first, in this order.
FIRST = (
    "data.source",
    "out",
    "minutes",
    "steps",
    "encoder.name",
    "encoder.size",
    "encoder.tune",
    "loss.name",
    "batch.classes",
    "batch.samples",
    "memory.size",
    "seed",
    "task",
)
OWN = {
    "resume": Option(None, str, "the folder of a run that was stopped, to go on with it; no other option beside it"),
    "live": Option(False, bool, "show the run in the browser while it trains; pullpush board does so for any run"),
    "quiet": Option(False, bool, "print neither the plan nor how far it is, only where the report lies"),
}


def train(argv: list[str]) -> int:
    """Trains, prints recall@1 before and after on unseen classes, and draws the report."""
    since = perf_counter()
    from pullpush.runs.options import choices, config_of, merged

    options, words = typed([word for word in argv if word not in ("--help", "-h")], flags=("live", "quiet"))
    live, quiet = (name in options and bool(options.pop(name).read(bool)) for name in ("live", "quiet"))
    resume = options.pop("resume").values[-1] if "resume" in options else None
    if resume is True:
        raise UserError("--resume needs the folder of a run: --resume runs/NAME")
    if resume and (options or words):
        left = [*words, *(option.shown for option in options.values())]
        raise UserError(f"--resume goes on with the run's own options; leave out {left[0]!r}")
    if {"minutes", "steps"} <= options.keys():
        raise UserError("--minutes says when it ends and --steps how long it goes on: give one of them")
    said = merged(options, words)
    if "--help" in argv or "-h" in argv:
        print(help_of(USAGE, ABOUT, EXAMPLES, _sections(*choices(said))))
        return 0
    typed_config = None if resume else config_of(said)
    # Only now: torch takes its time, and what is typed wrong is said at once.
    from lightning_fabric.utilities import rank_zero_only

    from pullpush.runs.folder import open_run, run_folder
    from pullpush.training.loop import train as run
    from pullpush.training.signals import Stopped

    config = typed_config or open_run(Path(str(resume)))
    folder = Path(config.out or run_folder(config))
    config.out = str(folder)
    first = not getattr(rank_zero_only, "rank", 0)  # of several processes that one shows and draws
    with showing(not quiet), _shown(folder) if live and first else nullcontext():
        if resume and (folder / "metrics.json").exists():
            print(f"{resume} is finished; its report is drawn again")
        else:
            try:
                folder = run(config, resume=resume, since=since, quiet=quiet)
            except Stopped as stopped:
                print(f"pullpush: {stopped}", file=sys.stderr)
                return 128 + stopped.number
        if not first or not config.report:
            return 0
        if sentence := missing("report"):
            print(f"no report: {sentence}, then pullpush report {folder}")
        else:
            report(str(folder))
    return 0


def _sections(*choices: Any) -> dict[str, dict[str, Option]]:
    """The options by title: those that are set first, by their short names, then the others."""
    from pullpush.runs.checked import SHORT
    from pullpush.runs.options import FILE, sections

    file = f"{FILE} with any of these options; what is typed beside it wins"
    own = {"config": Option(None, str, file), **OWN}
    shown, short = sections(*choices), {full: name for name, full in SHORT.items()}
    options = {name: option for section in shown.values() for name, option in section.items()}
    first = {short.get(name, name): options[name] for name in FIRST}
    left = {title: {n: o for n, o in section.items() if n not in FIRST} for title, section in shown.items()}
    return {"most used": {**first, **own}, **left}


@contextmanager
def _shown(folder: Path) -> Iterator[None]:
    """Within it, the run is shown in the browser; afterwards, too, where somebody sits at a terminal."""
    from pullpush.board import live
    from pullpush.cli.board import shown

    with live(folder.parent) as page:
        shown(f"{page.address}/#{folder.name}", browser=True)
        yield
        if sys.stdin.isatty():
            print("the page stays until Ctrl-C")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
