"""What the numbers mean: one text everywhere, an entry for each metric, and examples whose numbers are right."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pullpush import glossary
from pullpush.evaluation import evaluate
from pullpush.evaluation.metrics import METRICS

DOCS = Path(__file__).parents[1] / "docs"
ENTRY = re.compile(r"^### (.+)\n\n((?:- .+\n(?:  .+\n)*)+)", re.MULTILINE)
SAYS = ("- What it says: ", "- Good or bad: ", "- When not to trust it: ")


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_docs_have_the_same_text() -> None:
    assert (DOCS / "numbers.md").read_text(encoding="utf-8") == glossary.source()


def test_each_entry_says_what_it_means_how_it_is_read_and_when_not_to_trust_it() -> None:
    text = glossary.source()
    entries = ENTRY.findall(text)
    assert len(entries) == text.count("\n### ") > 20
    for title, lines in entries:
        starts = [line for line in lines.splitlines() if line.startswith("- ")]
        assert [each[: each.index(": ") + 2] for each in starts] == list(SAYS), title


def test_each_metric_has_an_entry() -> None:
    titles = {part.strip() for title, _ in ENTRY.findall(glossary.source()) for part in title.split(",")}
    assert {metric.title for metric in METRICS.values()} <= titles


def test_the_example_of_four_images_is_what_evaluate_gives() -> None:
    given = {name: value for name, value, *_ in rows(glossary.groups()["An example of four images"])}
    angles = torch.deg2rad(torch.tensor([0.0, 10, 20, 30, 40]))  # the query, dog, cat, cat, bird
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    query = evaluate(embeddings, torch.tensor([0, 1, 0, 0, 2]), ks=(1, 2), nmi=False).per_query.iloc[0]
    for name in ("recall@1", "recall@2"):
        assert query[name] == float(given[name])
    for name, title in (("mrr", "MRR"), ("r_precision", "R-precision"), ("map@r", "MAP@R")):
        assert query[name] == pytest.approx(float(given[title]))


def test_the_example_of_six_pairs_is_right() -> None:
    text = glossary.groups()["Same or different"]
    (_, *kinds), _, (_, *cosines) = rows(text)
    same = np.array([float(c) for c, kind in zip(cosines, kinds, strict=True) if kind == "same"])
    different = np.array([float(c) for c, kind in zip(cosines, kinds, strict=True) if kind == "different"])
    assert f"true accept rate {(same > 0.5).mean():.2f}" in " ".join(text.split())
    assert f"accept rate {(different > 0.5).mean():.2f}" in " ".join(text.split())
    above = same[:, None] > different
    assert f"{above.sum()} of the {above.size} ways" in " ".join(text.split())
    assert f"the AUC is {above.mean():.2f}" in " ".join(text.split())
    assert (same < 0.5).mean() == (different > 0.5).mean() == pytest.approx(0.33, abs=0.01)


def test_the_page_needs_nothing_else_and_no_link_leads_nowhere() -> None:
    page = glossary.page()
    assert "href=" not in page.replace('href="/page/glossary.css"', "")
    assert "src=" not in page
    assert "(<code>docs/evaluation.md</code>)" in page
    assert list(glossary.groups())[:2] == ["", "An example of four images"]
