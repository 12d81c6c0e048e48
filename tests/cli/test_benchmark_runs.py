"""The benchmarks from the command line, on small trees in their layout: to metrics, report and clear refusals."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pullpush.cli import main
from pullpush.data.items import Items
from pullpush.data.synthetic import make_tree
from pullpush.reports.blocks import how
from pullpush.reports.context import Context
from pullpush.reports.tables import metric_rows
from pullpush.runs.folder import open_run
from pullpush.runs.options import RECIPES, parse
from pullpush.runs.reader import RunFolder as Run
from tests.support.bare import BARE

FAST = [
    *BARE,
    *("--encoder.weights", "none", "--encoder.size", "32", "--encoder.dim", "8"),
    *("--batch.classes", "2", "--batch.samples", "2", "--data.validation", "0.4", "--steps", "2"),
]
RANKED = {
    "sop": (1, 10, 100, 1000),
    "inshop": (1, 10, 20, 30),
    "vehicleid": (1, 5),
    "cub": (1, 2, 4, 8),
    "cars": (1, 2, 4, 8),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("trees")
    return {name: make_tree(name, root / name) for name in RANKED}


@pytest.fixture(scope="module")
def runs(trees: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    for name, tree in trees.items():
        assert main(["train", "--data", name, "--root", str(tree), "--out", str(out / name), *FAST]) == 0
    return {name: out / name for name in trees}


@pytest.mark.parametrize("name", RANKED)
def test_from_train_to_the_metrics_of_the_protocol(name: str, runs: dict[str, Path]) -> None:
    found = json.loads((runs[name] / "metrics.json").read_text())
    wanted = {f"recall@{k}" for k in RANKED[name]}
    if name == "vehicleid":
        wanted |= {f"{way}/recall@{k}" for way in ("all_against_all", "one_gallery_image") for k in (1, 5)}
        wanted |= {f"one_gallery_image/recall@{k}/deviation" for k in (1, 5)}
    for measured in (found["test"]["before"], found["test"]["after"], found["validation"]):
        recalls = {key: value for key, value in measured.items() if "recall" in key}
        assert set(recalls) == wanted
        assert all(0 <= value <= 1 for value in recalls.values())
        assert recalls[f"recall@{RANKED[name][-1]}"] >= recalls["recall@1"]


def test_vehicleid_by_hand(runs: dict[str, Path]) -> None:
    """Ten draws of one gallery image an id, again from the stored embeddings."""
    after = json.loads((runs["vehicleid"] / "metrics.json").read_text())["test"]["after"]
    x = np.load(runs["vehicleid"] / "embeddings" / "test-after.npy").astype(np.float64)
    labels = Items.load(runs["vehicleid"] / "items.parquet").split("test").table["label"].to_numpy()
    generator, found = np.random.default_rng(0), []
    for _ in range(10):
        order = generator.permutation(len(labels))
        gallery = [next(row for row in order if labels[row] == label) for label in np.unique(labels)]
        queries = [row for row in range(len(labels)) if row not in gallery]
        similarities = x[queries] @ x[gallery].T
        own = labels[queries][:, None] == labels[gallery]
        ahead = np.where(own, -np.inf, similarities) - similarities[own][:, None]
        tied = (abs(ahead) < 1e-6).sum(1)  # in any order, as likely as another
        found.append(np.mean((ahead < 1e-6).all(1) / (1 + tied)))
    assert after["one_gallery_image/recall@1"] == pytest.approx(np.mean(found))
    assert after["one_gallery_image/recall@1/deviation"] == pytest.approx(np.std(found, ddof=1))
    assert after["all_against_all/recall@1"] == after["recall@1"]


def test_the_report_tells_the_protocol(runs: dict[str, Path]) -> None:
    shown, told = {}, {}
    for name in ("inshop", "vehicleid"):
        context = Context(Run(runs[name]))
        shown[name] = [row.name for row in metric_rows(context.run.metrics["test"])]
        told[name] = " ".join(how(context).lines)
        assert "differs from metrics.json" not in told[name]
    recalls = ["recall@1", "recall@10", "recall@20", "recall@30"]
    assert shown["inshop"] == [*recalls, "MRR", "R-precision", "MAP@R", "NMI"]
    assert "8 queries against 8 gallery items" in told["inshop"]
    assert {"recall@5", "all against all, recall@5", "one gallery image, recall@1, deviation"} < set(shown["vehicleid"])
    assert "ten draws of one image an id" in told["vehicleid"]


def test_evaluate_names_the_protocol_and_takes_the_test_split(
    trees: dict[str, Path], runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    argv = ["evaluate", str(runs["sop"]), "--data", "vehicleid", "--root", str(trees["vehicleid"])]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"] == "vehicleid"
    assert {"all_against_all/recall@5", "one_gallery_image/recall@5/deviation"} < set(found)
    assert main(argv) == 0
    said = " ".join(capsys.readouterr().out.split())  # lines break where the path is long
    assert "16 items, protocol vehicleid" in said
    assert "4 test classes; published figures of vehicleid are for 800, 1600, 2400" in said


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_recipes(recipe: str, trees: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read as they are; run with a smaller encoder, batch and number of steps."""
    whole = parse(["--config", recipe])
    assert whole.encoder.name == "resnet50.tv_in1k"
    name, out = whole.data.source, tmp_path / "run"
    assert parse(["--config", str(RECIPES / f"{recipe}.yaml")]) == whole
    words = ["--encoder.name", "tf_efficientnet_lite0", "--data.workers", "0", "--memory.start_step", "1"]
    argv = ["train", "--config", recipe, "--root", str(trees[name]), "--out", str(out), *words, *FAST]
    assert main([*argv, "--data.validation", "0"]) == 0
    ways = ["all_against_all/", "one_gallery_image/"] if name == "vehicleid" else [""]
    said = capsys.readouterr().out
    assert all(f"test {way}recall@1: " in said for way in ways)
    run = open_run(out)
    assert (run.loss, run.miner, run.nmi) == (whole.loss, whole.miner, whole.nmi)
    assert run.memory == replace(whole.memory, start_step=1)
    assert run.optimizer == whole.optimizer
    assert set(json.loads((out / "metrics.json").read_text())["test"]["after"]) >= {f"recall@{k}" for k in RANKED[name]}


def test_an_unknown_recipe_is_answered_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "sop-xmb"]) == 2
    assert "sop-xbm" in capsys.readouterr().err


def test_data_counts_against_the_published_numbers(trees: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "sop", "--root", str(trees["sop"])]) == 0
    said = capsys.readouterr().out
    assert "against the published numbers" in said
    found = [re.sub(r"[^\w]+", " ", line).split() for line in said.splitlines()]
    assert ["train", "images", "59551", "16", "59535"] in found
    assert ["test", "classes", "11316", "4", "11312"] in found
    assert main(["data", "inshop", "--root", str(trees["inshop"]), "--look", "false"]) == 0
    found = [re.sub(r"[^\w]+", " ", line).split() for line in capsys.readouterr().out.splitlines()]
    assert ["query", "images", "14218", "8", "14210"] in found
    assert ["gallery", "images", "12612", "8", "12604"] in found


def break_list(root: Path) -> None:
    (root / "Ebay_test.txt").unlink()


def break_image(root: Path) -> None:
    sorted(root.rglob("*.JPG"))[0].unlink()


def break_columns(root: Path) -> None:
    path = root / "Ebay_train.txt"
    path.write_text(path.read_text().replace("2 1 1 ", "2 1 ", 1))


def break_sides(root: Path) -> None:
    train, test = ((root / f"Ebay_{split}.txt").read_text().splitlines() for split in ("train", "test"))
    (root / "Ebay_test.txt").write_text("\n".join([*test, train[1]]))


@pytest.mark.parametrize("verb", ["train", "data"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_list, "Ebay_test.txt.*: No such file or directory; the official layout has this list"),
        (break_image, r"1 of 32 .*\.JPG"),
        (break_columns, "line 3: .* should have the columns image_id class_id super_class_id path"),
        (break_sides, "classes are in two splits"),
    ],
)
def test_broken_trees(
    verb: str, damage, said: str, trees: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(trees["sop"], tmp_path / "sop")
    damage(root)
    argv = ["train", "--data", "sop", "--out", str(tmp_path / "run"), *FAST] if verb == "train" else ["data", "sop"]
    assert main([*argv, "--root", str(root)]) == 2
    err = capsys.readouterr().err
    assert re.search(said, err), err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_small_tree_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cub", "--make", str(tmp_path / "cub")]) == 0
    assert (tmp_path / "cub" / "images.txt").exists()
    assert main(["data", "cub", "--make", str(tmp_path / "cub")]) == 2
    assert "not empty" in capsys.readouterr().err
