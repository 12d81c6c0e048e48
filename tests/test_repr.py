"""What objects print of themselves in a session: a line or a few, never whole arrays. The engine's is in search."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import pullpush
from pullpush.criterion import Regularizer, Sum
from pullpush.encoders.model import Model
from pullpush.evaluation.cross_modal import evaluate_image_text
from pullpush.search.hits import Hit, Hits

MINER = {"name": "multi_similarity", "epsilon": 0.2}


def _memory() -> pullpush.CrossBatchMemory:
    memory = pullpush.CrossBatchMemory(100, dim=4)
    memory.enqueue(torch.eye(4), torch.arange(4), torch.arange(4))
    return memory


CRITERIA = {
    "circle(margin=0.4, scale=80.0, per='anchor'), similarity=cosine, miner=None, memory=None": lambda: (
        pullpush.Criterion("circle", margin=0.4)
    ),
    "n_pair(temperature=0.1, one_vs_one=False), similarity=dot, relation=shared_label(), "
    "miner=multi_similarity(epsilon=0.2), memory=None, symmetric=True, learn='temperature'": lambda: pullpush.Criterion(
        "n_pair", learn="temperature", miner=MINER, relation="shared_label", symmetric=True
    ),
    "arcface(margin=0.5, scale=64.0), similarity=cosine, miner=None": lambda: pullpush.Criterion(
        "arcface", proxies=pullpush.Proxies(10, 8)
    ),
    "size=100, filled=4, dim=4, layout='queue', combine='sum', compensate='moments', tolerance=1": _memory,
    "size=10, items=50, filled=0, dim=4, layout='table', combine='sum', weight=0.5, start_step=3, compensate='none', "
    "tolerance=0": lambda: pullpush.CrossBatchMemory(
        10, 4, items=50, layout="table", weight=0.5, start_step=3, compensate="none", tolerance=0
    ),
    "classes=10, dim=8, per_class=2": lambda: pullpush.Proxies(10, 8, per_class=2),
    "vicreg(invariance_weight=25.0, variance_weight=1.0, covariance_weight=1.0, target=1.0, epsilon=0.0001)": lambda: (
        Regularizer("vicreg", variance_weight=1.0)
    ),
    "weights=[1.0, 0.5]": lambda: Sum([pullpush.Criterion("triplet"), Regularizer("vicreg")], weights=[1.0, 0.5]),
}


@pytest.mark.parametrize("wanted", CRITERIA)
def test_what_modules_add(wanted: str) -> None:
    made = CRITERIA[wanted]()
    assert made.extra_repr() == wanted
    assert wanted in repr(made)


def test_a_criterion_shows_its_memory() -> None:
    assert repr(pullpush.Criterion("circle", memory=_memory())).splitlines()[:3] == [
        "Criterion(",
        "  circle(margin=0.4, scale=80.0, per='anchor'), similarity=cosine, miner=None",
        "  (memory): CrossBatchMemory(size=100, filled=4, dim=4, layout='queue', combine='sum', compensate='moments', "
        "tolerance=1)",
    ]


def test_a_criterion_shows_what_is_learned_only_where_something_is() -> None:
    assert "LearnedOptions" not in repr(pullpush.Criterion("circle"))
    assert "LearnedOptions" not in repr(pullpush.Criterion("circle", memory=_memory()))
    assert "log_temperature" in repr(pullpush.Criterion("n_pair", learn="temperature"))


def test_samplers() -> None:
    names = ["a", "a", "b", "b", "c"]
    balanced = pullpush.ClassBalancedSampler(names, 2, 2)
    assert repr(balanced) == "ClassBalancedSampler(2 classes x 2 samples of 3 classes, 5 items, seed=0, position=0)"
    list(balanced)
    assert "position=2" in repr(balanced)
    dropping = pullpush.ClassBalancedSampler(names, 2, 2, short="drop")
    assert "2 samples of 2 classes, 4 items" in repr(dropping)
    shuffled = pullpush.ShuffledSampler(50, 8, seed=3, rank=1, world=2)
    assert repr(shuffled) == "ShuffledSampler(batches of 8 of 50 items, seed=3, position=0, rank=1 of 2)"


def test_a_model() -> None:
    image = pullpush.ImageEncoder("test_resnet", weights="none", dim=8, size=32)
    assert repr(Model([image], "0123456789abcdef" * 4)) == (
        "Model(\n  image='test_resnet', size=32,\n  text=None,\n  dim=8, fingerprint='0123456789ab...',\n)"
    )


def test_items() -> None:
    table = pd.DataFrame({"path": list("abcd"), "label": [0, 0, 1, 1]})
    assert repr(pullpush.Items(table, ["x", "y"], "four")) == "Items('four', 4 items of 2 classes)"
    table["split"] = ["train", "train", "test", ""]
    assert repr(pullpush.Items(table, ["x", "y"], "\x1b[31m")) == (
        r"Items('\x1b[31m', 4 items of 2 classes: 2 train, 1 test, 1 in no split)"
    )


def test_evaluations() -> None:
    rows = np.eye(4)[[0, 0, 1, 1, 2]]
    assert repr(pullpush.evaluate(rows, list("aabbc"), nmi=False)) == (
        "Evaluation(recall@1=1.0000, r_precision=1.0000, map@r=1.0000; "
        "5 queries of 3 classes, 1 left out, leave_one_out)"
    )
    both = evaluate_image_text(np.eye(4), range(4), np.eye(4), range(4), ks=(1, 2))
    assert repr(both) == "CrossModal(image_to_text/recall@1=1.0000, text_to_image/recall@1=1.0000)"


def test_what_a_notebook_shows(tmp_path) -> None:
    """Tables with the numbers, names of others as text, images of the items."""
    Image.new("RGB", (200, 100), "red").save(tmp_path / "a.png")
    rows = pd.DataFrame({"path": [str(tmp_path / "a.png"), str(tmp_path / "gone.png")], "label": [0, 1]})
    items = pullpush.Items(rows.assign(split=["train", ""]), ["<b>&", "gone"], "two", ["a <note>"])
    shown = items._repr_html_()
    left = ' style="text-align:left"'
    assert f"<td{left}>train</td><td>1</td><td>1</td>" in shown
    assert "<p>a &lt;note&gt;</p>" in shown
    assert "&lt;b&gt;&amp;</figcaption>" in shown
    assert "<b>" not in shown
    (image,) = re.findall(r"data:image/png;base64,([^\"]+)", shown)  # what can't be read is left out
    assert Image.open(io.BytesIO(base64.b64decode(image))).size == (72, 36)

    x, labels = np.eye(4)[[0, 0, 1, 2, 2, 3]] + 0.01, np.array([0, 0, 1, 2, 2, 2])
    evaluation = pullpush.evaluate(x, labels, nmi=False)
    shown = evaluation._repr_html_()
    assert shown.index("<th>recall@1</th>") < shown.index(f"<td>{evaluation.metrics['recall@1']:.4f}</td>")
    assert "the classes that find least" in evaluation._repr_html_()
    both = evaluate_image_text(x, labels, x, labels)
    assert f"{both.metrics['text_to_image/recall@1']:.4f}" in both._repr_html_()

    findings = pullpush.diagnose(np.ones((64, 8)), np.arange(64) // 4)
    assert f"<td{left}>{findings[0].severity}</td><td{left}>{findings[0].finding}</td>" in findings._repr_html_()
    assert findings[0].advice.split()[0] in findings[0]._repr_html_()
    assert "nothing is wrong" in type(findings)()._repr_html_()
    html = pullpush.Criterion("circle", margin=0.4, memory=_memory())._repr_html_()
    assert f"<td{left}>loss</td><td{left}>circle(margin=0.4, scale=80.0, per=&#x27;anchor&#x27;)</td>" in html
    assert f"<td{left}>memory</td><td{left}>CrossBatchMemory(size=100" in html

    hits = [Hit(n, 0.5, str(tmp_path / name), "<i>", []) for n, name in enumerate(("a.png", "gone.png"))]
    assert Hits(hits)._repr_html_().count("<figure") == 1
    assert "&lt;i&gt; 0.50</figcaption>" in Hits(hits)._repr_html_()
    assert Hits()._repr_html_() == "<p>Hits()</p>"
    assert repr(Hits(hits)) == "Hits(<i> 0.50, <i> 0.50)"
