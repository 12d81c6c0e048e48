"""pullpush train"""

import sys
from pathlib import Path
from time import perf_counter

from pullpush.cli.reports import report
from pullpush.errors import UserError
from pullpush.extras import missing
from pullpush.signatures import Option
from pullpush.words import help_of, typed

__all__ = ["train"]

USAGE = "pullpush train [--data emoji|FOLDER|FILE.csv|FILE.parquet] [--loss NAME] [--encoder NAME] [--OPTION VALUE ...]"
ABOUT = "Trains, evaluates on classes that were not trained on, and draws a report."
EXAMPLES = """\
pullpush train                                   the emoji data, the default recipe
pullpush train --data photos/ --out runs/photos  a folder with a folder a class
pullpush train --data photos/ --minutes 10       size, batch and steps that suit the images, the machine and the time
pullpush train --data items.csv --encoder resnet50 --encoder.size 224 --batch.classes 16
pullpush train --loss circle --loss.margin 0.4 --loss.scale 80 --memory 4096
pullpush train --task image-text                 images with their texts, in one space
pullpush train --config runs/photos/config.yaml --seed 1 --out runs/photos-1
pullpush train --resume runs/photos              go on after Ctrl-C, a kill or a power cut
pullpush train --loss circle --help              with the options of that loss"""


def train(argv: list[str]) -> int:
    """Trains, prints recall@1 before and after on unseen classes, and draws the report."""
    since = perf_counter()
    from pullpush.runs.options import FILE, choices, config_of, merged, sections

    options, words = typed([word for word in argv if word not in ("--help", "-h")])
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
        file = Option(None, str, f"{FILE} with any of these options; what is typed beside it wins")
        shown = sections(*choices(said))
        print(help_of(USAGE, ABOUT, {**shown, "the run": {"config": file, **shown["the run"]}}, EXAMPLES))
        return 0
    typed_config = None if resume else config_of(said)
    # Only now: torch takes its time, and what is typed wrong is said at once.
    from pullpush.runs.folder import open_run
    from pullpush.training.loop import train as run
    from pullpush.training.signals import Stopped

    try:
        if resume and (Path(resume) / "metrics.json").exists():
            folder, wanted = Path(resume), open_run(Path(resume)).report
            print(f"{resume} is finished; its report is drawn again")
        else:
            config = typed_config or open_run(Path(str(resume)))
            folder, wanted = run(config, resume=resume, since=since), config.report
    except Stopped as stopped:
        print(f"pullpush: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    if wanted and (sentence := missing("report")):
        print(f"no report: {sentence}, then pullpush report {folder}")
    elif wanted:
        report(str(folder))
    return 0
