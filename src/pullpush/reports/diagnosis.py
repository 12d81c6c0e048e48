"""The findings of a run: from its folder, as a list and as a page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup, escape
from torch import Tensor

from pullpush.doctor import (
    MEANINGS,
    SEVERITIES,
    Finding,
    History,
    Measures,
    Objective,
    examine,
    measure_duplicates,
    measure_sides,
    objective_of,
    shown,
)  # fmt: skip
from pullpush.errors import UserError
from pullpush.files import damaged, write_text
from pullpush.reports.diagnosis_figures import draw_finding
from pullpush.reports.render import render
from pullpush.reports.run import Missing, Run

__all__ = ["diagnose_run", "diagnosis_page"]

# Items of a split that are compared with one another.
ROWS = 8192


def diagnose_run(path: Path | str) -> list[Finding]:
    """What is wrong with a run, worst first: what its monitor found, what its log and its embeddings say.

    Nothing is trained or embedded again. Of what an unfinished or failed run lacks, nothing is said.

    Raises:
        UserError: no run folder, or a file in it is damaged.
    """
    run = Run(Path(path))
    objective = _objective(run)
    found = {finding.finding: finding for finding in _found_live(run)}
    for measures in (_history(run).measures(), *_embeddings(run), _evaluation(run)):
        found |= {finding.finding: finding for finding in examine(measures, objective)}
    if "collapse" in found:
        found.pop("near_collapse", None)
    if run.damaged:
        raise UserError(f"{str(run.path)!r} is damaged: {'; '.join(run.damaged)}")
    return sorted(found.values(), key=lambda finding: SEVERITIES.index(finding.severity))


def diagnosis_page(path: Path | str, findings: list[Finding]) -> Path:
    """Writes `diagnosis.html` in the run folder: each finding with a figure, its meaning and its cure.

    Returns: the path of the page, one file that opens without a network.
    """
    run = Run(Path(path))
    history = _history(run)
    parts = [(finding, MEANINGS[finding.finding], draw_finding(finding, history, run)) for finding in findings]
    html = render(
        "pullpush.reports", "diagnosis.html", filters={"shown": shown, "whole": _whole},
        name=run.name, findings=parts, sentence=_sentence(findings), looks=len(history.looks),
    )  # fmt: skip
    target = run.path / "diagnosis.html"
    write_text(target, html)
    return target


def _whole(advice: str) -> Markup:
    """Options and their values are not broken over two lines."""
    return Markup(
        re.sub(r"(--[\w.]+(?: (?=[\d.]|true|none|semihard)[\w.+-]*\w)?)", r"<code>\1</code>", str(escape(advice)))
    )


def _sentence(findings: list[Finding]) -> str:
    if not findings:
        return "Nothing is wrong with this run, as far as the doctor can see."
    counts = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    said = [f"{n} {severity}{'s' if n > 1 and severity != 'critical' else ''}" for severity, n in counts.items() if n]
    return f"{', '.join(said).capitalize()}. Mend the first one first: others may follow from it."


def _objective(run: Run) -> Objective:
    try:
        return objective_of(run.config)
    except Missing as error:
        raise UserError(f"{str(run.path)!r} is no run folder: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # options of other types than ours
        raise damaged(run.path / "config.yaml", error) from error


def _found_live(run: Run) -> list[Finding]:
    found = []
    for values in run.findings:
        if values["finding"] not in MEANINGS or values["severity"] not in SEVERITIES:
            continue  # of another version
        evidence = {**values["evidence"], "step": values["step"]}
        found.append(Finding(values["finding"], values["severity"], evidence, values["advice"]))
    return found


def _history(run: Run) -> History:
    try:
        classes = float(run.split("validation").table["label"].nunique())
    except Missing:
        classes = float("nan")
    history = History(classes)
    try:
        for step, row in run.log.iterrows():
            history.add({"step": step, **row.dropna()})
    except Missing as missing:
        run.notes.append(str(missing))
    return history


def _embeddings(run: Run) -> list[Measures]:
    """Measures of the test embeddings after training, of both modalities where there are two; and of duplicates among
    the training items, whose labels the loss saw."""
    found = []
    images, texts = (_matrix(run, f"test-after{side}") for side in ("", "-text"))
    if images is not None:
        found.append(measure_sides({"embeddings": images} if texts is None else {"image": images, "text": texts}))
    trained = _matrix(run, "train-after")
    if trained is not None and texts is None and trained.isfinite().all():
        items = run.split("train")
        rows = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(len(items))[:ROWS]))
        if len(items) == len(trained):
            of_trained = measure_sides({"embeddings": trained})
            found.append(of_trained | measure_duplicates([(trained[rows], items.labels[rows], items.ids[rows])]))
    return found


def _matrix(run: Run, name: str) -> Tensor | None:
    try:
        return torch.from_numpy(run.matrix(name))
    except Missing:
        return None


def _evaluation(run: Run) -> Measures:
    try:
        table = run.split("test").table
    except Missing:
        return Measures()
    queries = table[table["role"] != "gallery"] if "role" in table else table
    gallery = table[table["role"] != "query"] if "role" in table else table
    inside = gallery["label"].value_counts()
    itself = queries["role"].eq("both") if "role" in table else True
    positives = queries["label"].map(inside).fillna(0) - itself
    return Measures(queries=float(len(queries)), queries_with_positive=float((positives > 0).mean()))
