"""What the cross-batch memory brings, and what it costs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.benchmark import Timer

from pullpush.criterion import Criterion, CrossBatchMemory
from pullpush.errors import UserError
from pullpush.files.tables import read_csv
from pullpush.maths.similarity import normalize
from pullpush.reports import style
from pullpush.reports.page import Block, Section, drawn
from pullpush.runs.config import Config
from pullpush.studies.page import tabled, write_page
from pullpush.studies.plan import StudyRun, named
from pullpush.studies.recorders import StepTimes, seconds_per_step
from pullpush.studies.runner import finished, folder_of
from pullpush.studies.seeds import Difference, by_seed, figure_of_differences, plot_seeds
from pullpush.studies.spread import ENOUGH, meaning, paired, spread
from pullpush.studies.table import table_of, within_seeds, write_table

__all__ = ["HALF", "batch_settings", "draw_memory", "memory_cost", "memory_runs"]

HALF: tuple[Literal["bfloat16", "float16"], ...] = ("bfloat16", "float16")
STORAGES: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", *HALF)
PLACES = (4096, 16_384, 65_536)
DIM = 128
COST = ("places", "storage", "megabytes", "ms", "compiled_ms", "bare_ms")


def batch_settings(batches: Sequence[float], samples: int, memory: float) -> list[dict[str, Any]]:
    """Options of each batch size, without a memory and with one.

    Raises:
        UserError: a batch that is no multiple of `samples`, or of one class only.
    """
    for batch in batches:
        if batch % samples or batch < 2 * samples:
            raise UserError(f"--batches {batch:g}: give multiples of --samples {samples}, of two classes or more")
    return [
        {"batch.classes": int(batch) // samples, "batch.samples": samples, "memory.size": size}
        for batch in batches
        for size in (0, memory)
    ]


def memory_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss, batch, memory, storage and seed; equal ones once."""
    runs = [
        named(
            config,
            (StepTimes,),
            batch=config.batch.classes * config.batch.samples,
            memory=config.memory.size,
            storage=config.memory.storage,
        )
        for config in configs
    ]
    return list({run.name: run for run in runs}.values())


def memory_cost(places: Sequence[int] = PLACES, batch: int = 64) -> pd.DataFrame:
    """Bytes of a memory, and time of the contrastive loss of a batch with its gradient, on all threads.

    Args:
        places: sizes of the memory; all full.
        batch: anchors.

    Returns:
        Columns places, storage, megabytes, ms (loss and gradient), compiled_ms (the same, compiled), bare_ms (the two
        matrix products that no loss can do without: similarities forward, gradient back). The first row is the batch
        alone.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        vectors = normalize(torch.randn(n, DIM, generator=generator))
        return vectors, torch.randint(max(places), (n,), generator=generator), torch.arange(n)

    def milliseconds(statement: str, **names: Any) -> float:
        timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
        return 1000 * float(timer.blocked_autorange(min_run_time=0.5).median)

    def step(compiled: bool, memory: CrossBatchMemory | None) -> float:
        criterion = Criterion("contrastive", memory=memory, compile=compiled)
        names = {"criterion": criterion, "anchors": anchors, "labels": labels, "ids": ids - batch}
        criterion(anchors, labels, ids - batch).backward()  # compiles
        return milliseconds("criterion(anchors, labels, ids).backward()", **names)

    anchors, labels, ids = draw(batch)
    anchors.requires_grad_()
    rows = []
    for size, storage in [(0, None), *((n, s) for n in places for s in STORAGES)]:
        held = draw(max(size, batch))
        memory = CrossBatchMemory(size, DIM, combine="sum", storage=storage) if storage else None
        if memory is not None:
            memory.enqueue(*held)
        used = sum(b.numel() * b.element_size() for b in memory.buffers()) if memory else 0
        rows.append(
            {
                "places": size,
                "storage": storage or "none",
                "megabytes": used / 1e6,
                "ms": step(False, memory),
                "compiled_ms": step(True, memory),
                "bare_ms": milliseconds("(x @ y.mT) @ y", x=anchors.detach(), y=held[0]),
            }
        )
    return pd.DataFrame(rows)


def draw_memory(runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = ()) -> Path:
    """table.csv, difference.csv, cost.csv, figures and page.html from what the finished runs left.

    The cost is measured once and kept: drawing again measures nothing.

    Returns:
        The page.
    """
    runs = finished(runs, out)
    table = table_of(runs, out).drop(columns="validation/map@r")
    table["ms_per_step"] = [1000 * seconds_per_step(folder_of(out, run)) for run in runs]
    write_table(table, out / "table.csv")
    gains = differences(table)
    write_table(gains.drop(columns="spread"), out / "difference.csv")
    sections = [
        Section("Recall over the batch size", [drawn(partial(_draw_batch, table), out / "batch.png", _bands(table))]),
        Section("What the memory adds", _gains(gains, out)),
    ]
    ratio = _over_ratio(table)
    if len(ratio):
        title = f"Recall over the size of the memory, {ratio['loss'].iloc[0]} at batch {ratio['batch'].iloc[0]}"
        caption = _bands(ratio) + (" 0 is without a memory." if (ratio["memory"] == 0).any() else "")
        sections.append(Section(title, [drawn(partial(_draw_ratio, ratio), out / "ratio.png", caption)]))
    sections += [
        Section("Half-precision storage", [tabled(_storages(table))]),
        Section("Cost", _cost(out)),
    ]
    return write_page("Cross-batch memory", _sentence(gains), sections, runs, out, failed, table=table)


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Recall@1 with the largest memory less that without one, paired by seed, over seeds that have both: its mean, and
    its 95% interval (of fewer than four seeds, its range).

    Returns:
        Columns loss, batch, seeds, without, with, difference, low, high, spread.
    """
    rows = []
    plain = table[table["storage"] == "float32"]
    for loss in dict.fromkeys(plain["loss"]):
        for batch, part in plain[plain["loss"] == loss].groupby("batch"):
            by = part.pivot(index="seed", columns="memory", values="recall@1")
            if 0 not in by or len(by.columns) < 2:
                continue
            both = by[[0, by.columns.max()]].dropna()
            if len(both):
                gain = paired(both.iloc[:, 0], both.iloc[:, 1])
                rows.append((loss, batch, len(both), *both.mean(), *gain[:3], gain))
    columns = ["loss", "batch", "seeds", "without", "with", "difference", "low", "high", "spread"]
    return pd.DataFrame(rows, columns=columns)


def _gains(gains: pd.DataFrame, out: Path) -> list[Block]:
    """What the memory adds, in words, as a figure where there are several seeds, and as a table."""
    if gains.empty:
        return []
    repeated = gains["seeds"].max() > 1
    once = meaning(gains["seeds"]) if repeated else "With one seed each, they say little."
    text = f"Differences are of runs with the same seed, which share classes and the start of the head. {once}"
    drawn_of = [
        Difference(f"{loss}, batch {batch}", {"recall@1": gain})
        for loss, batch, gain in gains[["loss", "batch", "spread"]].itertuples(index=False)
    ]
    shown = gains[["loss", "batch", "seeds", "without", "with"]]
    shown = shown.assign(difference=[gain.formatted("+.3f") for gain in gains["spread"]])
    figure = [figure_of_differences(drawn_of, out)] if repeated else []
    return [Block(text=[text]), *figure, tabled(shown)]


def _cost(out: Path) -> list[Block]:
    """What the memory costs on this machine, as cost.csv has it."""
    path = out / "cost.csv"
    if not path.exists():
        write_table(memory_cost(), path)
    cost = read_csv(path, COST, cure="remove it to measure anew")
    text = (
        f"Loss and gradient of 64 anchors of {DIM} dimensions, contrastive, on this machine, as it is and "
        "compiled (--compile). The two bare matrix products are what no loss can do without."
    )
    figure = drawn(partial(_draw_cost, cost), out / "cost.png", "Time over the places of the memory.")
    return [Block(text=[text]), figure, tabled(cost)]


def _bands(table: pd.DataFrame) -> str:
    """What is drawn of recall@1 over seeds."""
    repeats = table.groupby(["loss", "batch", "memory", "storage"]).size()
    text = "Test recall@1. "
    if repeats.max() >= ENOUGH:
        text = (
            "Test recall@1, mean over seeds. Seeds differ in their test classes; what a seed adds to all its runs is "
            "taken out of the bands, which are 95% intervals (Cousineau-Morey). "
        )
    elif repeats.max() > 1:
        text = "Test recall@1, mean over seeds, and faint each seed, which has its own test classes. "
    return text + "All runs take the same number of steps."


def _sentence(gains: pd.DataFrame) -> str:
    """Where the memory raises recall@1 for certain, where it lowers it, for each loss; with one seed, what was seen."""
    parts = []
    for loss, part in gains.groupby("loss", sort=False):
        seeds = (part["seeds"] > 1).all()
        above = part[part["low"] > 0] if seeds else part[part["difference"] > 0]
        below = part[part["high"] < 0] if seeds else part[part["difference"] < 0]
        said = []
        for rows, what, best in ((above, "raises", "idxmax"), (below, "lowers", "idxmin")):
            if len(rows):
                most = rows.loc[getattr(rows["difference"], best)()]
                where = ", ".join(f"{batch:g}" for batch in rows["batch"])
                said.append(
                    f"{what} recall@1 at batch {where}, most at {most['batch']:g} ({most['without']:.3f} to "
                    f"{most['with']:.3f})"
                )
        nothing = "changes recall@1 at no batch size beyond what seeds explain" if seeds else "changes no recall@1"
        parts.append(f"{loss}: the memory {' and '.join(said) or nothing}" + ("" if seeds else ", with one seed"))
    return ". ".join(parts) + "." if parts else ""


def _over_ratio(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the loss and batch with the most sizes of the memory, where there are more than two; whole seeds."""
    plain = table[table["storage"] == "float32"]
    sizes = plain.groupby(["loss", "batch"], sort=False)["memory"].nunique()
    if not len(sizes) or sizes.max() < 3:
        return plain.iloc[:0]
    loss, batch = sizes.idxmax()
    part = plain[(plain["loss"] == loss) & (plain["batch"] == batch)]
    tried = part.groupby("seed")["memory"].transform("nunique")  # seeds with all sizes, or the points would not compare
    return part[tried == sizes.max()]


def _storages(table: pd.DataFrame) -> pd.DataFrame:
    """Recall@1 of the settings that were run in half precision too, a row a storage."""
    keys = ["loss", "batch", "memory"]
    same = table.merge(table.loc[table["storage"].isin(HALF), keys].drop_duplicates(), on=keys)
    rows = [
        (*setting, len(part), spread(part["recall@1"], 0, 1).formatted())
        for setting, part in same.groupby([*keys, "storage"], sort=False)
    ]
    return pd.DataFrame(rows, columns=[*keys, "storage", "runs", "recall@1"])


def _draw_batch(table: pd.DataFrame, theme: style.Theme) -> Figure:
    plain = table[table["storage"] == "float32"]
    names = list(dict.fromkeys(plain["loss"]))
    figure, axes = style.panels(theme, len(names), width=3.9, height=4.0, sharey=True)
    for panel, name in zip(axes, names, strict=True):
        of_loss = _comparable(plain[plain["loss"] == name], ["batch", "memory"])
        for place, (size, label) in enumerate(((0, "without memory"), (of_loss["memory"].max(), "with memory"))):
            _line(panel, of_loss[of_loss["memory"] == size], "batch", label, place, theme)
        panel.set_xscale("log", base=2)
        batches = sorted(of_loss["batch"].unique())
        panel.set_xticks(batches, [f"{b:g}" for b in batches])
        style.label(panel, name, "batch size", "test recall@1" if panel is axes[0] or theme.narrow else "")
    style.legend_below(figure)
    return figure


def _draw_ratio(table: pd.DataFrame, theme: style.Theme) -> Figure:
    figure, axes = style.subplots(width=5.6, height=3.8)
    _line(axes, _comparable(table, ["memory"]), "memory", str(table["loss"].iloc[0]), 0, theme)
    share = table["memory"].max() <= 1
    over = "size of the memory, share of the training set" if share else "places of the memory"
    style.label(axes, f"Test recall@1 at batch {table['batch'].iloc[0]}", over, "test recall@1")
    return figure


def _comparable(table: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """With enough seeds for bands, what each seed adds is taken out of them; fewer are drawn as they are."""
    enough = table.groupby(settings).size().min() >= ENOUGH
    return within_seeds(table, settings, "recall@1") if enough else table


def _draw_cost(cost: pd.DataFrame, theme: style.Theme) -> Figure:
    figure, axes = style.subplots(width=5.6, height=4.6)
    held = cost[cost["places"] > 0]
    for place, (storage, part) in enumerate(held.groupby("storage", sort=False)):
        axes.plot(part["places"], part["ms"], **theme.look(place), linestyle=":", label=storage)
        axes.plot(part["places"], part["compiled_ms"], **theme.look(place), label=f"{storage}, compiled")
    bare = held[held["storage"] == "float32"]
    axes.plot(bare["places"], bare["bare_ms"], color=theme.ink, linestyle="--", label="two bare products")
    axes.set_xticks(bare["places"], [f"{n:,}" for n in bare["places"]])
    axes.set_ylim(bottom=0)
    style.label(axes, "Loss and gradient, batch 64", "places", "milliseconds")
    style.legend_below(figure)
    return figure


def _line(axes: Axes, table: pd.DataFrame, over: str, label: str, place: int, theme: style.Theme) -> None:
    plot_seeds(axes, by_seed(table, over, "recall@1"), label=label, most=1, **theme.look(place))
