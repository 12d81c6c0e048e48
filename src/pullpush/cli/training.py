"""pullpush train"""

import sys
from pathlib import Path

from pullpush.cli.reports import draw_report
from pullpush.errors import UserError
from pullpush.extras import missing

__all__ = ["train"]

EXAMPLES = """\
  pullpush train                                   the emoji data, the default recipe
  pullpush train --data photos/ --out runs/photos  a folder with a folder a class
  pullpush train --data items.csv --encoder resnet50 --encoder.size 224 --batch.classes 16
  pullpush train --loss circle --loss.margin 0.4 --loss.scale 80 --memory 4096
  pullpush train --task image-text                 images with their descriptions, in one space
  pullpush train --config runs/photos/config.yaml --seed 1 --out runs/photos-1
  pullpush train --resume runs/photos              go on after Ctrl-C, a kill or a power cut
  pullpush train --loss circle --help              with the options of that loss
"""


def train(argv: list[str]) -> int:
    """Trains, prints recall@1 before and after on unseen classes, and draws the report."""
    resume, rest = _resumed(argv)
    if "--help" in rest or "-h" in rest:
        _help(rest)
        return 0
    from pullpush.runs.options import parse

    if resume and rest:
        raise UserError(f"--resume goes on with the run's own options; leave out {rest[0]!r}")
    typed = None if resume else parse(rest)
    # Only now: torch takes its time, and what is typed wrong is said at once.
    from pullpush.runs.folder import open_run
    from pullpush.training.loop import train as run
    from pullpush.training.signals import Stopped

    try:
        if resume and (Path(resume) / "metrics.json").exists():
            folder, wanted = Path(resume), open_run(Path(resume)).report
            print(f"{resume} is finished; its report is drawn again")
        else:
            config = typed or open_run(Path(str(resume)))
            folder, wanted = run(config, resume=resume), config.report
    except Stopped as stopped:
        print(f"pullpush: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    if wanted and (sentence := missing("report")):
        print(f"no report: {sentence}, then pullpush report {folder}")
    elif wanted:
        draw_report(folder)
    return 0


def _resumed(argv: list[str]) -> tuple[str | None, list[str]]:
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == "--resume":
            if not equals and place + 1 == len(argv):
                raise UserError("--resume needs the folder of a run: --resume runs/NAME")
            after = place + (1 if equals else 2)
            return (value if equals else argv[place + 1]), argv[:place] + argv[after:]
    return None, argv


def _help(argv: list[str]) -> None:
    from pullpush.runs.options import chosen, sections, task_defaults
    from pullpush.words import help_of

    rest = [word for word in argv if word not in ("--help", "-h")]
    defaults = task_defaults(rest)
    shown = {
        title: {name: about._replace(default=defaults.get(name, about.default)) for name, about in options.items()}
        for title, options in sections(*chosen(rest)).items()
    }
    usage = (
        "pullpush train [--data emoji|FOLDER|FILE.csv|FILE.parquet] [--loss NAME] [--encoder NAME] [--OPTION VALUE ...]"
    )
    print(help_of(usage, "Trains, evaluates on classes that were not trained on, and draws a report.", shown, EXAMPLES))
