"""What the cross-batch memory brings, and what it costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch.utils.benchmark import Timer

from pullpush.criterion import Criterion, CrossBatchMemory
from pullpush.errors import UserError
from pullpush.maths.similarity import normalize
from pullpush.reports import style
from pullpush.reports.curves import plot_line_with_band
from pullpush.studies.page import Section, Shown, how_obtained, write_page
from pullpush.studies.plan import StudyRun
from pullpush.studies.recorders import StepTimes, seconds_per_step
from pullpush.studies.runner import folder_of, is_finished
from pullpush.studies.table import band, interval, table_of, within_seeds, write_table
from pullpush.training.config import Config

__all__ = ["HALF", "batch_settings", "draw_memory", "memory_cost", "memory_runs"]

HALF = ("bfloat16", "float16")
PLACES = (4096, 16_384, 65_536)
DIM = 128


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
    runs = {}
    for c in configs:
        facts = {
            "loss": c.loss["name"], "batch": c.batch.classes * c.batch.samples, "memory": c.memory["size"],
            "storage": c.memory["storage"], "seed": c.seed,
        }  # fmt: skip
        name = "{loss}-batch-{batch}-memory-{memory:g}-{storage}-seed-{seed}".format(**facts)
        runs[name] = StudyRun(name, c, facts, (StepTimes,))
    return list(runs.values())


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
    for size, storage in [(0, "none"), *((n, s) for n in places for s in ("float32", *HALF))]:
        held = draw(max(size, batch))
        memory = CrossBatchMemory(size, DIM, combine="sum", storage=storage) if size else None
        if memory is not None:
            memory.enqueue(*held)
        used = sum(b.numel() * b.element_size() for b in memory.buffers()) if memory else 0
        rows.append(
            {
                "places": size, "storage": storage, "megabytes": used / 1e6,
                "ms": step(False, memory), "compiled_ms": step(True, memory),
                "bare_ms": milliseconds("(x @ y.mT) @ y", x=anchors.detach(), y=held[0]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def draw_memory(runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = ()) -> Path:
    """table.csv, difference.csv, cost.csv, figures and page.html from what the finished runs left.

    The cost is measured once and kept: drawing again measures nothing.

    Returns:
        The page.
    """
    runs = [run for run in runs if is_finished(folder_of(out, run))]
    table = table_of(runs, out).drop(columns="validation/map@r")
    table["ms_per_step"] = [1000 * seconds_per_step(folder_of(out, run)) for run in runs]
    write_table(table, out / "table.csv")
    found = differences(table)
    write_table(found, out / "difference.csv")
    if not (out / "cost.csv").exists():
        write_table(memory_cost(), out / "cost.csv")
    cost = pd.read_csv(out / "cost.csv")

    def shown(name: str, draw: Any, caption: str) -> Shown:
        return Shown(style.save(draw, out / f"{name}.png"), caption)

    bands = (
        "Test recall@1, mean over seeds. Seeds differ in their test classes; what a seed adds to all its runs is taken "
        "out of the bands, which are 95% intervals (Cousineau-Morey). All runs take the same number of steps."
    )
    sections = [
        Section(
            "Recall over the batch size",
            figures=[shown("batch", lambda theme: _draw_batch(table, theme), bands)],
            text=["Differences are of runs with the same seed, which share classes and the start of the head."],
            table=_said(found),
        )
    ]
    ratio = _over_ratio(table)
    if len(ratio):
        title = f"Recall over the size of the memory, {ratio['loss'].iloc[0]} at batch {ratio['batch'].iloc[0]}"
        picture = shown("ratio", lambda theme: _draw_ratio(ratio, theme), bands + " 0 is without a memory.")
        sections.append(Section(title, figures=[picture]))
    halves = table[table["storage"].isin(HALF)]
    if len(halves):
        sections.append(Section("Half-precision storage", table=_storages(table, halves)))
    sections += [
        Section(
            "Cost",
            text=[
                f"Loss and gradient of 64 anchors of {DIM} dimensions, contrastive, on this machine, as it is and "
                "compiled (--compile). The two bare matrix products are what no loss can do without."
            ],
            figures=[shown("cost", lambda theme: _draw_cost(cost, theme), "Time over the places of the memory.")],
            table=cost,
        ),
        Section("How the numbers were obtained", points=how_obtained(runs, out, failed)),
        Section("All runs", table=table),
    ]
    page = out / "page.html"
    write_page(page, "Cross-batch memory", _sentence(found), sections)
    return page


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Recall@1 with the largest memory less that without one, paired by seed, with its 95% interval.

    Returns:
        Columns loss, batch, seeds, without, with, difference, low, high.
    """
    rows = []
    plain = table[table["storage"] == "float32"]
    for (loss, batch), part in plain.sort_values("batch").groupby(["loss", "batch"], sort=False):
        by = part.pivot(index="seed", columns="memory", values="recall@1")
        if 0 not in by or len(by.columns) < 2:
            continue
        both = by[[0, by.columns.max()]].dropna().to_numpy()
        mean, low, high = interval(both[:, 1] - both[:, 0])
        rows.append((loss, batch, len(both), *both.mean(0), mean, low, high))
    columns = ["loss", "batch", "seeds", "without", "with", "difference", "low", "high"]
    order = {loss: place for place, loss in enumerate(dict.fromkeys(table["loss"]))}
    return pd.DataFrame(rows, columns=columns).sort_values("loss", key=lambda c: c.map(order), kind="stable")


def _said(found: pd.DataFrame) -> pd.DataFrame:
    shown = found[["loss", "batch", "without", "with"]].copy()
    shown["difference"] = [
        f"{r.difference:+.3f}" + (f" ({r.low:+.3f} to {r.high:+.3f})" if r.seeds > 1 else "")
        for r in found.itertuples()
    ]
    return shown


def _sentence(found: pd.DataFrame) -> str:
    parts = []
    for loss, part in found.groupby("loss", sort=False):
        above = part[part["low"] > 0] if (part["seeds"] > 1).all() else part[part["difference"] > 0]
        best = part.loc[part["difference"].idxmax()]
        where = ", ".join(f"{batch:g}" for batch in above["batch"])
        parts.append(
            f"{loss}: the memory raises recall@1 at batch {where}, most at {best['batch']:g} "
            f"({best['without']:.3f} to {best['with']:.3f})"
            if len(above)
            else f"{loss}: the memory raises recall@1 at no batch size beyond what seeds explain"
        )
    return ". ".join(parts) + "."


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


def _storages(table: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Recall@1 of the settings that were run in half precision too, a row a storage."""
    keys = ["loss", "batch", "memory"]
    same = table.merge(halves[keys].drop_duplicates(), on=keys)
    rows = []
    for (*setting, storage), part in same.groupby([*keys, "storage"], sort=False):
        mean, low, high = interval(part["recall@1"].to_numpy())
        rows.append((*setting, storage, mean, low, high))
    return pd.DataFrame(rows, columns=[*keys, "storage", "recall@1", "low", "high"])


def _draw_batch(table: pd.DataFrame, theme: style.Theme) -> Figure:
    plain = table[table["storage"] == "float32"]
    names = list(dict.fromkeys(plain["loss"]))
    figure, axes = style.subplots(1, len(names), width=3.9 * max(2, len(names)), height=3.8, squeeze=False, sharey=True)
    for panel, name in zip(axes[0], names, strict=True):
        of_loss = within_seeds(plain[plain["loss"] == name], ["batch", "memory"], "recall@1")
        for place, (size, label) in enumerate(((0, "without memory"), (of_loss["memory"].max(), "with memory"))):
            _line(panel, band(of_loss[of_loss["memory"] == size], "batch", "recall@1"), label, place, theme)
        panel.set_xscale("log", base=2)
        batches = sorted(of_loss["batch"].unique())
        panel.set_xticks(batches, [f"{b:g}" for b in batches])
        style.label(panel, name, "batch size", "" if panel is not axes[0][0] else "test recall@1")
        panel.legend(loc="best")
    return figure


def _draw_ratio(table: pd.DataFrame, theme: style.Theme) -> Figure:
    figure, axes = style.subplots(1, 1, width=5.6, height=3.8)
    found = band(within_seeds(table, ["memory"], "recall@1"), "memory", "recall@1")
    _line(axes, found, str(table["loss"].iloc[0]), 0, theme)
    share = table["memory"].max() <= 1
    over = "size of the memory, share of the training set" if share else "places of the memory"
    style.label(axes, f"Test recall@1 at batch {table['batch'].iloc[0]}", over, "test recall@1")
    return figure


def _draw_cost(cost: pd.DataFrame, theme: style.Theme) -> Figure:
    figure, axes = style.subplots(1, 1, width=5.6, height=3.8)
    held = cost[cost["places"] > 0]
    for place, (storage, part) in enumerate(held.groupby("storage", sort=False)):
        look = {"color": theme.series[place], "marker": style.MARKERS[place]}
        axes.plot(part["places"], part["ms"], **look, linestyle=":", label=storage)
        axes.plot(part["places"], part["compiled_ms"], **look, label=f"{storage}, compiled")
    bare = held[held["storage"] == "float32"]
    axes.plot(bare["places"], bare["bare_ms"], color=theme.ink, linestyle="--", label="two bare products")
    axes.set_xticks(bare["places"], [f"{n:,}" for n in bare["places"]])
    axes.set_ylim(bottom=0)
    style.label(axes, "Loss and gradient, batch 64", "places", "milliseconds")
    axes.legend(loc="upper left")
    return figure


def _line(axes: Any, found: pd.DataFrame, label: str, place: int, theme: style.Theme) -> None:
    plot_line_with_band(
        axes, np.asarray(found.index), found["mean"], found["low"], found["high"], label=label,
        color=theme.series[place], marker=style.MARKERS[place],
    )  # fmt: skip
