"""pullpush study, pullpush tune"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pullpush.bounds import Bound, Count, Positive, Share, Window
from pullpush.errors import UserError
from pullpush.names import did_you_mean, look_up
from pullpush.signatures import of, section
from pullpush.words import Said, call, typed

__all__ = ["study", "tune"]

Seeds = Annotated[int, Bound(1, 1000)]
Jobs = Annotated[int, Bound(1, 256)]

FOLLOW = """

Any option of `pullpush train` may follow and holds for all runs; --LOSS.OPTION VALUE, such as --circle.scale 64, for
the runs of one loss. The backbone is frozen unless --encoder.freeze false. The same command goes on with a study that
was stopped; finished runs are not repeated, their figures are drawn again; a larger --trials prolongs a search."""


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
        examples = "\n".join(section(of(kind).doc, "Examples") for kind in kinds.values())
        print(f"usage: pullpush study {{{','.join(kinds)}}} [options]\n\nexamples:\n{examples}{FOLLOW}")
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
    call(verb, argv, prog, several="over", more=FOLLOW)


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
    """Trains each loss at each margin: test recall@1 and MAP@R over the margin, loss curves, table.csv, page.html.

    Args:
        losses: names of losses that have a margin.
        margins: FIRST:LAST:STEP, both ends included, or A,B,C.
        seeds: repeats; the first seed is --seed.
        jobs: processes.
        window: steps in the moving average of the curves.
        out: folder of the study.

    Examples:
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
    """Losses beside each other: convergence, the gap to validation, pairs, maps, time, final metrics.

    All train with the same miner (multi_similarity, unless --miner says otherwise), as the question whether validation
    without it makes the gap asks for one.

    Args:
        losses: names.
        seeds: repeats; the first seed is --seed.
        jobs: processes; times of steps are comparable with one only.
        window: steps in the moving average of the curves.
        target: validation recall@1 whose steps and seconds are told; 0 for what every run reaches.
        out: folder of the study.

    Examples:
        pullpush study losses --losses circle,triplet,multi_similarity --seeds 3 --out studies/losses
    """
    from pullpush.studies.losses import draw_losses, losses_runs

    runs = losses_runs(_configs(options, _names(losses), [{}], seeds, miner="multi_similarity"))
    _study(runs, out, jobs, draw_losses, window, target)


def _grid(over: str = "", seeds: Seeds = 1, jobs: Jobs = 1, out: str = "studies/grid", **options: Said) -> None:
    """Every combination of the values of some options.

    Args:
        over: OPTION=A,B,C or OPTION=FIRST:LAST:STEP, several of them.
        seeds: repeats; the first seed is --seed.
        jobs: processes.
        out: folder of the study.

    Examples:
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
    """Recall@1 over the batch size with and without the cross-batch memory, over its size, and what it costs.

    The memory's loss is added to the batch's (--memory.combine sum), as in its paper.

    Args:
        losses: names; sizes and half precision are tried with the first.
        batches: items in a batch, A,B,C or FIRST:LAST:STEP.
        ratios: sizes of the memory as shares of the training set; the largest is the one over batch sizes.
        at: batch at which sizes of the memory are compared.
        samples: items of each class in a batch.
        seeds: repeats; the first seed is --seed.
        jobs: processes; times of steps are comparable with one only.
        out: folder of the study.

    Examples:
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
    """How far embeddings of the same items move in 10, 100 and 1,000 steps, along training.

    Args:
        losses: names.
        seeds: repeats; the first seed is --seed.
        jobs: processes.
        age: steps that an embedding stays in the memory, for the advice on its start: 10, 100 or 1000.
        tolerance: mean squared change that is taken as little.
        out: folder of the study.

    Examples:
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
    """Searches options of a run by Optuna; the best MAP@R on the validation classes wins.

    Args:
        over: OPTION=LOW:HIGH or OPTION=LOW:HIGH:log, several of them.
        trials: runs in all, those of earlier calls included.
        out: folder of the search; its storage is tune.db.

    Examples:
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
