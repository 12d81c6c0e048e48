"""pullpush study, pullpush tune"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pullpush.bounds import Bound, Count, Positive, Share, Window
from pullpush.errors import UserError
from pullpush.names import did_you_mean, look_up
from pullpush.signatures import REQUIRED, Option, of, section, summary
from pullpush.words import Said, call, help_of, typed

__all__ = ["study", "tune"]

Seeds = Annotated[int, Bound(1, 1000)]
Jobs = Annotated[int, Bound(1, 256)]

USAGE = "pullpush study {margin,losses,grid,memory,drift} [--OPTION VALUE ...]"
ABOUT = """\
Trains many runs that differ in a few options, several times each with other seeds, and draws them on one page with \
intervals. Say which kind of study; pullpush study losses --help has the options of that kind."""
FOLLOW = """\
Any option of pullpush train may follow and holds for all runs; --LOSS.OPTION VALUE, such as --circle.scale 64, holds \
for the runs of one loss. Only the head is trained unless --encoder.freeze false. The same command goes on with what \
was stopped and does not repeat finished runs; a larger --trials prolongs a search."""


def study(argv: list[str]) -> int:
    """Runs a study and draws its page."""
    kinds: dict[str, Callable[..., None]] = {
        "margin": _margin,
        "losses": _losses,
        "grid": _grid,
        "memory": _memory,
        "drift": _drift,
    }
    if not argv or argv[0] in ("-h", "--help"):
        about = {name: of(kind) for name, kind in kinds.items()}
        examples = "\n".join(section(each.doc, "Examples").partition("\n")[0] for each in about.values())
        shown = {name: Option(REQUIRED, str, summary(each.doc)) for name, each in about.items()}
        print(help_of(USAGE, ABOUT, examples, {"kinds": shown}, FOLLOW))
        sys.exit(0)
    _call(look_up("study", argv[0], kinds, "see pullpush study -h"), argv[1:], f"pullpush study {argv[0]}")
    return 0


def tune(argv: list[str]) -> int:
    """Searches options of a run on the validation classes."""
    _call(_tune, argv, "pullpush tune")
    return 0


def _call(verb: Callable[..., None], argv: list[str], prog: str) -> None:
    """Calls `verb` with its own options, and with those of its runs as they were typed."""
    from pullpush.runs.config import Config

    own = of(verb).options
    others = {field.name for field in fields(Config) if not (field.name == "loss" and "losses" in own)}
    for name, said in typed(argv)[0].items():
        hint = did_you_mean(name, own, "", "--{}", 0.75)
        if hint and name not in (*own, *others):
            raise UserError(f"unknown option {said.shown}: {hint}")
    call(verb, argv, prog, several="over", notes=FOLLOW)


def _study(runs: list[Any], out: str, jobs: int, draw: Callable[..., Path], *options: Any) -> None:
    """Trains the runs, draws their page and prints where it lies."""
    from pullpush.studies.runner import run_study

    print(f"page: {draw(runs, Path(out), run_study(runs, Path(out), jobs), *options)}")


def _configs(
    options: Mapping[str, Said],
    losses: Sequence[str],
    settings: Sequence[Mapping[str, Any]],
    seeds: int,
    **defaults: Any,
) -> list[Any]:
    """A checked configuration for each seed, loss and setting (dotted options)."""
    from pullpush.runs.options import config_of, merged
    from pullpush.studies.plan import FAST

    def config(loss: str, **more: Any) -> Any:
        words = [f"--loss={loss}", *(f"--{name}={value}" for name, value in more.items())]
        return config_of(merged({**_of_loss(options, losses, loss), **typed(words)[0]}, below={**FAST, **defaults}))

    base = config(losses[0])
    if base.data.validation <= 0:
        raise UserError("a study chooses by validation classes: --data.validation must be above 0")
    return [
        config(loss, seed=seed, **setting)
        for seed in range(base.seed, base.seed + seeds)
        for loss in losses
        for setting in settings
    ]


def _of_loss(options: Mapping[str, Said], losses: Sequence[str], loss: str) -> dict[str, Said]:
    """`--circle.scale 64` as `--loss.scale 64` for circle, and left out for the others."""
    others = tuple(f"{name}." for name in losses if name != loss)
    return {
        f"loss.{name.removeprefix(f'{loss}.')}" if name.startswith(f"{loss}.") else name: said
        for name, said in options.items()
        if not name.startswith(others)
    }


def _names(text: str) -> list[str]:
    names = [name for name in (part.strip() for part in text.split(",")) if name]
    if not names:
        raise UserError("--losses is empty: give names such as circle,triplet")
    return names


def _margin(
    *,
    losses: str = "circle,triplet",
    margins: str = "0.4:1.0:0.1",
    seeds: Seeds = 1,
    jobs: Jobs = 1,
    window: Window = 50,
    out: str = "studies/margin",
    **options: Said,
) -> None:
    """Trains each loss at each margin, and draws what is found on the test over the margin.

    Also loss curves, table.csv and page.html.

    Args:
        losses: names of losses that have a margin, joined by commas.
        margins: the margins to try: FIRST:LAST:STEP, both ends included, or A,B,C.
        seeds: how often each is repeated, with other seeds from --seed on.
        jobs: how many runs train at the same time.
        window: smooth the curves over so many steps.
        out: the folder of the study.

    Examples:
        pullpush study margin --losses circle --margins 0.2,0.4,0.6
        pullpush study margin --losses circle,triplet --margins 0.4:1.0:0.1 --steps 1000 --seeds 3 --out studies/margin
    """
    from pullpush.studies import draw_margin, margin_runs
    from pullpush.studies.margin import check_margin
    from pullpush.studies.plan import numbers

    names = _names(losses)
    check_margin(names)
    settings = [{"loss.margin": margin} for margin in numbers(margins, "margins")]
    runs = margin_runs(_configs(options, names, settings, seeds))
    _study(runs, out, jobs, draw_margin, window)


def _losses(
    *,
    losses: str = "circle,triplet,multi_similarity",
    seeds: Seeds = 3,
    jobs: Jobs = 1,
    window: Window = 50,
    target: Share = 0.0,
    out: str = "studies/losses",
    **options: Said,
) -> None:
    """Trains losses side by side, to see which finds most, how fast each learns, and what a step costs.

    All train with the same miner (multi_similarity, unless --miner says otherwise), as the question whether validation
    without it makes the gap asks for one.

    Args:
        losses: names of losses (pullpush losses lists them), joined by commas.
        seeds: how often each is repeated, with other seeds from --seed on.
        jobs: how many runs train at the same time; times are comparable with 1 only.
        window: smooth the curves over so many steps.
        target: tell how soon each reaches this recall@1 on the validation classes; 0 takes what every run reaches.
        out: the folder of the study.

    Examples:
        pullpush study losses --losses circle,triplet --steps 100 --seeds 1     a first look
        pullpush study losses --losses circle,triplet,multi_similarity --seeds 3 --out studies/losses
    """
    from pullpush.studies.losses import draw_losses, losses_runs

    runs = losses_runs(_configs(options, _names(losses), [{}], seeds, miner="multi_similarity"))
    _study(runs, out, jobs, draw_losses, window, target)


def _grid(over: str = "", seeds: Seeds = 1, jobs: Jobs = 1, out: str = "studies/grid", **options: Said) -> None:
    """Trains every combination of the values of some options.

    Args:
        over: the options and their values: OPTION=A,B,C or OPTION=FIRST:LAST:STEP, one or several of them.
        seeds: how often each is repeated, with other seeds from --seed on.
        jobs: how many runs train at the same time.
        out: the folder of the study.

    Examples:
        pullpush study grid --over optimizer.lr=0.0001,0.001 --data photos/
        pullpush study grid --over batch.classes=8,16,32 memory.size=0,4096 --loss contrastive --out studies/grid
    """
    from pullpush.studies.grid import draw_grid, grid_runs, settings_of

    settings = settings_of(over)
    configs = _configs(options, [_loss_in(options)], settings, seeds)
    runs = grid_runs(configs, settings * seeds)
    _study(runs, out, jobs, draw_grid)


def _memory(
    *,
    losses: str = "contrastive,triplet,multi_similarity",
    batches: str = "8,16,32,64,128",
    ratios: str = "0.05,0.2,0.5,1",
    at: Count = 16,
    samples: Annotated[int, Bound(1, 4096)] = 4,
    seeds: Seeds = 3,
    jobs: Jobs = 1,
    out: str = "studies/memory",
    **options: Said,
) -> None:
    """Trains with and without the cross-batch memory at several batch sizes, to see what it finds and costs.

    The memory's loss is added to the batch's (--memory.combine sum), as in its paper.

    Args:
        losses: names of losses, joined by commas; sizes and half precision are tried with the first.
        batches: how many items are in a batch: A,B,C or FIRST:LAST:STEP.
        ratios: sizes of the memory as shares of the training set; batch sizes are compared at the largest.
        at: the batch at which sizes of the memory are compared.
        samples: items of each class in a batch.
        seeds: how often each is repeated, with other seeds from --seed on.
        jobs: how many runs train at the same time; times are comparable with 1 only.
        out: the folder of the study.

    Examples:
        pullpush study memory --losses contrastive --batches 16,64 --seeds 1
        pullpush study memory --batches 8,16,32,64,128 --steps 500 --seeds 3 --out studies/memory
    """
    from pullpush.studies.memory import HALF, batch_settings, draw_memory, memory_runs
    from pullpush.studies.plan import numbers

    names, sizes = _names(losses), sorted(numbers(ratios, "ratios"))
    over_batches = batch_settings(numbers(batches, "batches"), samples, sizes[-1])
    plain, full = batch_settings([at], samples, sizes[-1])
    over_sizes = [plain, *({**full, "memory.size": size} for size in sizes)]
    halves = [{**full, "memory.storage": storage} for storage in HALF]
    combine = {"memory.combine": "sum"}
    runs = memory_runs(
        _configs(options, names, over_batches, seeds, **combine)
        + _configs(options, names[:1], [*over_sizes, *halves], seeds, **combine)
    )
    _study(runs, out, jobs, draw_memory)


def _drift(
    *,
    losses: str = "contrastive",
    seeds: Seeds = 1,
    jobs: Jobs = 1,
    age: Count = 100,
    tolerance: Positive = 0.1,
    out: str = "studies/drift",
    **options: Said,
) -> None:
    """Measures how far embeddings of the same items move in 10, 100 and 1,000 steps, from the start of training on.

    It advises when a cross-batch memory may begin.

    Args:
        losses: names of losses, joined by commas.
        seeds: how often each is repeated, with other seeds from --seed on.
        jobs: how many runs train at the same time.
        age: how many steps an embedding stays in the memory, for the advice on its start: 10, 100 or 1000.
        tolerance: the mean squared change that counts as little.
        out: the folder of the study.

    Examples:
        pullpush study drift --losses contrastive,triplet --steps 300
        pullpush study drift --losses contrastive --steps 3000 --encoder.freeze false --out studies/drift
    """
    from pullpush.studies.drift import check_age, draw_drift, drift_runs

    check_age(age)
    runs = drift_runs(_configs(options, _names(losses), [{}], seeds))
    _study(runs, out, jobs, draw_drift, age, tolerance)


def _tune(
    *,
    over: str = "optimizer.lr=1e-4:1e-2:log",
    trials: Annotated[int, Bound(1, 100_000)] = 20,
    out: str = "studies/tune",
    **options: Said,
) -> None:
    """Searches for the best options of a run: trains with one setting after the other and keeps what finds most on the
    validation classes.

    By Optuna; the best MAP@R on the validation classes wins.

    Args:
        over: the options and their ranges: OPTION=LOW:HIGH or OPTION=LOW:HIGH:log, one or several of them.
        trials: how many runs in all, those of earlier calls included.
        out: the folder of the search; its storage is tune.db.

    Examples:
        pullpush tune --data photos/ --trials 10            the learning rate
        pullpush tune --loss circle --over optimizer.lr=1e-4:1e-2:log loss.margin=0.1:0.8 --trials 30 --out studies/tune
    """
    from pullpush.studies.tune import draw_tune, ranges_of
    from pullpush.studies.tune import tune as search

    loss = _loss_in(options)
    runs = search(lambda values: _configs(options, [loss], [values], 1)[0], ranges_of(over), Path(out), trials)
    print(f"page: {draw_tune(runs, Path(out))}")


def _loss_in(options: Mapping[str, Said]) -> str:
    from pullpush.runs.options import choices, merged

    return choices(merged(options))[0]
