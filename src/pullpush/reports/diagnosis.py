"""The findings of a run: from its folder, as a list and as a page."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pullpush.doctor.declaration import SEVERITIES, Finding, shown, words
from pullpush.doctor.diagnose import examine, explained_by, ranked
from pullpush.doctor.findings import FINDINGS
from pullpush.doctor.history import PREFIX, History, replay
from pullpush.doctor.measures import (
    Measures,
    measure_duplicates,
    measure_metrics,
    measure_queries,
    measure_sides,
)
from pullpush.doctor.objective import Objective, objective_of
from pullpush.encoders import load
from pullpush.errors import UserError
from pullpush.evaluation.border import CLASSES, border_recall
from pullpush.files import damaged
from pullpush.reports.curves import draw_curves
from pullpush.reports.page import Block, Page, Section, drawn
from pullpush.reports.style import Theme, label, subplots
from pullpush.runs.config import with_texts
from pullpush.runs.reader import Curve, Missing, RunFolder, or_else

__all__ = ["Diagnosis", "diagnose_run", "diagnosis_page", "draw_finding"]

# Items of a split that are compared with one another.
ROWS = 8192
# Inches of the figure of a finding.
WIDTH, HEIGHT = 5.2, 2.7


@dataclass
class Diagnosis:
    """What is wrong with a run.

    Attributes:
        findings: worst first.
        not_seen: sentences on what could not be looked at.
        notes: sentences on what else is worth knowing.
        history: what the log tells.
    """

    findings: list[Finding]
    not_seen: list[str]
    notes: list[str]
    history: History

    @property
    def sentence(self) -> str:
        """The findings counted."""
        if not self.findings:
            where = "in what the doctor could look at" if self.not_seen else "as far as the doctor can see"
            return f"Nothing is wrong with this run, {where}."
        counts = {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}
        said = [f"{n} {severity}{'s' * (n > 1 and severity != 'critical')}" for severity, n in counts.items() if n]
        more = " Mend the first one first: others may follow from it." if len(self.findings) > 1 else ""
        return f"{', '.join(said).capitalize()}.{more}"

    @property
    def source(self) -> str:
        """Where the findings are from: what there was to look at."""
        looks = len(self.history.looks)
        seen = [f"{looks} looks of the monitor during training"] if looks else []
        seen += ["the log"] if self.history.losses else []
        return " and ".join(filter(None, [", ".join(seen), "what else the run folder holds"]))


def diagnose_run(path: Path | str) -> Diagnosis:
    """What is wrong with a run: what its log, its embeddings and its metrics say with the thresholds of today, and what
    only its monitor could see.

    Nothing is trained again, and nothing embedded but parts of about a hundred test images. What an unfinished or
    failed run lacks is named in `not_seen`.

    Raises:
        UserError: no run folder, or a file in it is damaged.
    """
    run, not_seen, notes = RunFolder.named(path), list[str](), list[str]()
    if not run.trained:
        raise UserError(f"{str(run.path)!r} is an evaluation of a model that was not trained here: nothing to diagnose")
    objective, history = _objective(run), _history(run)
    findings, live = replay(_lines(run, not_seen), objective, history), _said_live(run)
    findings |= {name: finding for name, finding in live.items() if FINDINGS[name].live}
    looked_at = (*_embeddings(run, not_seen), _evaluation(run, objective, not_seen), _border(run, not_seen))
    for measures in (_result(run, not_seen), *looked_at):
        findings |= {finding.finding: finding for finding in examine(measures, objective)}
    if run.damaged:
        raise UserError(f"{str(run.path)!r} is damaged: {'; '.join(run.damaged)}")
    for name in sorted(live.keys() - findings.keys()):
        said = f"The monitor said {name.replace('_', ' ')} at step {live[name].evidence['step']:.0f}"
        notes.append(f"{said}; with the thresholds of today, or with what followed, it is no finding.")
    for name in findings:
        if by := explained_by(name, findings):
            said = f"{name.replace('_', ' ').capitalize()} was seen as well"
            notes.append(f"{said}: {by.replace('_', ' ')} explains it.")
    return Diagnosis(ranked(findings.values()), not_seen, [*notes, *run.notes], history)


def diagnosis_page(path: Path | str, diagnosis: Diagnosis) -> Path:
    """Writes `diagnosis.html` in the run folder: each finding with a figure, its meaning and its cure.

    Returns:
        The path of the page, one file that opens without a network.
    """
    run = RunFolder(Path(path))
    others = {"Not looked at": diagnosis.not_seen, "Notes": diagnosis.notes}
    sections = [_section(finding, draw_finding(finding, diagnosis.history, run)) for finding in diagnosis.findings]
    sections += [Section(title, [Block(lines=lines)]) for title, lines in others.items()]
    footer = f"From {diagnosis.source}; `pullpush diagnose` draws it again at any time."
    return Page("diagnosis", run.name, diagnosis.sentence, sections, [footer]).write(run.path / "diagnosis.html")


def _section(finding: Finding, figure: Block | None) -> Section:
    seen = [(words(name), shown(value)) for name, value in finding.evidence.items()]
    said = Block(text=[FINDINGS[finding.finding].meaning], head=["", ""], rows=seen, note=finding.advice)
    title = finding.finding.replace("_", " ").capitalize()
    return Section(title, [said, *([figure] if figure else [])], finding.finding, severity=finding.severity)


def _objective(run: RunFolder) -> Objective:
    try:
        return objective_of(run.config)
    except Missing as error:
        raise UserError(f"{str(run.path)!r} is no run folder: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # options of other types than ours
        raise damaged(run.path / "config.yaml", error) from error


def _said_live(run: RunFolder) -> dict[str, Finding]:
    """What the monitor said, as far as this version knows such a finding."""
    known = [line for line in run.findings if line["finding"] in FINDINGS and line["severity"] in SEVERITIES]
    said = [
        Finding(line["finding"], line["severity"], line["evidence"], line["advice"]).at(line["step"]) for line in known
    ]
    return {finding.finding: finding for finding in said}


def _history(run: RunFolder) -> History:
    return or_else(lambda: History(float(run.split("validation").table["label"].nunique())), History())


def _lines(run: RunFolder, not_seen: list[str]) -> list[dict[str, Any]]:
    """The log, a line a step, as the monitor saw it."""
    try:
        lines = [{"step": step, **row.dropna()} for step, row in run.log.iterrows()]
    except Missing as missing:
        not_seen.append(f"How training went: {missing}")
        return []
    if not any(name.startswith(PREFIX) for line in lines for name in line):
        not_seen.append("The batches, updates and memory of training: the log holds no look of the monitor.")
    if not any(name.startswith("validation/") for line in lines for name in line):
        not_seen.append("Whether it over-fits: the log holds no validation.")
    return lines


def _result(run: RunFolder, not_seen: list[str]) -> Measures:
    try:
        measures = measure_metrics(run.metrics)
    except Missing as missing:
        not_seen.append(f"The result against the untrained model: {missing} The run did not come to its end.")
        return Measures()
    if not any(name.endswith("_before") for name in measures):
        not_seen.append(
            "The result against the untrained model: metrics.json holds no metrics of a test before training."
        )
    return measures


def _embeddings(run: RunFolder, not_seen: list[str]) -> list[Measures]:
    """Measures of the test embeddings after training, of both modalities where there are two; and of duplicates among
    the training items, whose labels the loss saw."""
    measures = []
    images, texts = (_matrix(run, f"test-after{side}", not_seen) for side in ("", "-text"))
    if images is not None:
        sides = {"embeddings": images} if texts is None else {"image": images, "text": texts}
        measures.append(measure_sides(sides))
        not_seen.extend(_not_finite("test", x) for x in sides.values() if not x.isfinite().all())
    if texts is None and (trained := _matrix(run, "train-after", not_seen)) is not None:
        measures.append(_trained(run, trained, not_seen))
    return measures


def _trained(run: RunFolder, trained: Tensor, not_seen: list[str]) -> Measures:
    measures = measure_sides({"embeddings": trained})
    whole = trained.isfinite().all(1)
    if not whole.all():
        not_seen.append(_not_finite("train", trained))
    try:
        items = run.split("train")
    except Missing as missing:
        not_seen.append(f"Equal items among the training items: {missing}")
        return measures
    if len(items) != len(trained):
        not_seen.append(f"Equal items among the training items: {len(trained)} embeddings for {len(items)} items.")
        return measures
    rows = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(int(whole.sum()))[:ROWS]))
    if len(rows) > 1:
        rows = whole.nonzero()[:, 0][rows]
        measures |= measure_duplicates([(trained[rows], items.labels[rows], items.ids[rows])])
    return measures


def _not_finite(split: str, embeddings: Tensor) -> str:
    bad = int((~embeddings.isfinite().all(1)).sum())
    return (
        f"{bad:,} of the {len(embeddings):,} {split} embeddings, which hold NaN or infinity: the others were looked at."
    )


def _matrix(run: RunFolder, name: str, not_seen: list[str]) -> Tensor | None:
    split = name.partition("-")[0]
    try:
        return torch.from_numpy(run.matrix(name))
    except Missing as missing:
        if not name.endswith("-text"):
            not_seen.append(f"Embeddings of the {split} items: {missing}")
        return None


def _evaluation(run: RunFolder, objective: Objective, not_seen: list[str]) -> Measures:
    try:
        items = run.split("test").table
        texts = run.texts("test") if with_texts(objective.run.get("task", "")) else None
    except Missing as missing:
        not_seen.append(f"Whether queries have positives: {missing}")
        return Measures()
    return measure_queries(items, texts, "id" if objective.run.get("text.relation") == "item" else "label")


def _border(run: RunFolder, not_seen: list[str]) -> Measures:
    """What the border of the test images finds alone; not measured of a test without enough classes or of no images."""
    table = or_else(lambda: run.split("test").table, None)
    if table is None or (table["label"].value_counts() > 1).sum() < CLASSES or not (run.path / "model").is_dir():
        return Measures()
    try:
        model = load(run.path)
    except UserError as error:
        not_seen.append(f"What the border of the images decides: {error}")
        return Measures()
    recall = border_recall(model, run.split("test")) if "image" in model.encoders else None
    if recall is None:
        return Measures()
    return Measures(whole_recall=recall.whole, border_recall=recall.border, middle_recall=recall.middle)


def draw_finding(finding: Finding, history: History, run: RunFolder) -> Block | None:
    """The figure that the finding declares, also in `plots/`; None where there is nothing to draw."""
    path, declared = run.path / "plots" / f"finding_{finding.finding}.png", FINDINGS[finding.finding].figure
    alt = f"What was seen: {finding.finding.replace('_', ' ')} over the steps of the run"
    if declared == "spread":
        embeddings = or_else(lambda: run.embeddings("test", "after"), None)
        return None if embeddings is None else drawn(partial(_draw_spread, embeddings), path, "", alt)
    if declared is None:
        return None
    points = {name: np.array(history.series(key), dtype=np.float64) for key, name in declared.series.items()}
    curves = [Curve(name, each[:, 0], each[:, 1]) for name, each in points.items() if len(each)]
    if not curves:
        return None
    last = history.looks[-1] if history.looks else {}
    levels = {name: last[key] for key, name in declared.levels.items() if key in last}
    draw = partial(draw_curves, curves, title=declared.title, y=declared.y, levels=levels, width=WIDTH, height=HEIGHT)
    return drawn(draw, path, "", alt)


def _draw_spread(embeddings: NDArray[np.float32], theme: Theme) -> Figure:
    figure, axes = subplots(width=WIDTH, height=HEIGHT)
    deviation = np.sort(embeddings.std(0))[::-1]
    axes.bar(np.arange(len(deviation)), deviation, width=1.0, color=theme.after)
    axes.grid(axis="x", visible=False)
    label(axes, "Spread of each dimension", "dimension, widest first", "standard deviation")
    return figure
