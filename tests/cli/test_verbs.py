"""The verbs as a person types them, on a small run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import pullpush
from pullpush.cli import main
from pullpush.cli.main import VERBS
from pullpush.data.synthetic import make_tree
from pullpush.encoders.bundle import _fingerprint


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree("folder", tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    config = folder.parent / "small.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "data": {"source": str(photos), "test": 0.25, "validation": 0.25},
                "encoder": {"weights": "none", "size": 32},
                "loss": {"name": "triplet", "margin": 0.5},
                "batch": {"classes": 2, "samples": 3},
                "steps": 4,
                "tensorboard": False,
            }
        )
    )
    assert main(["train", "--config", str(config), "--loss.margin", "0.3", "--out", str(folder)]) == 0
    return folder


def test_train_takes_yaml_and_overrides(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["loss"]["name"] == "triplet"
    assert config["loss"]["margin"] == 0.3
    assert config["batch"] == {"classes": 2, "samples": 3, "short": "repeat"}


def test_train_leaves_a_report(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "recall@1" in page
    assert list((run / "plots").glob("*.png"))


def test_another_loss_than_the_files_brings_its_own_options(run: Path) -> None:
    from pullpush.runs.options import parse

    config = parse(["--config", str(run / "config.yaml"), "--loss", "circle"])
    assert config.loss.name == "circle"
    assert config.loss.options["margin"] != 0.3


def test_resume_of_a_finished_run_changes_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "metrics.json").read_bytes()
    assert main(["train", "--resume", str(run)]) == 0
    assert "finished" in capsys.readouterr().out
    assert (run / "metrics.json").read_bytes() == before


def test_evaluate(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "classes.csv"
    argv = ["evaluate", str(run), "--data", str(photos), "--json", "--per-class", str(table)]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["recall@1"] <= 1
    assert found["knn@1"] == pytest.approx(found["recall@1"])
    assert found["identification"][0]["shots"] == 1
    assert 0 <= found["identification"][0]["accuracy"] <= 1
    assert len(pd.read_csv(table)) == 8
    assert main(["evaluate", str(run / "model"), "--data", str(photos), "--nmi", "false"]) == 0
    shown = capsys.readouterr().out
    assert "recall@1" in shown
    assert "knn@5" in shown
    assert "accuracy" in shown


def test_evaluate_reranks(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", str(run), "--data", str(photos), "--rerank"]
    assert main([*argv, "auto", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["rerank"]
    assert said["chosen_on"]["split"] == "validation"
    assert said["options"] in [each["options"] for each in said["chosen_on"]["tried"]]
    assert main([*argv, "expand=2,augment=1"]) == 0
    shown = capsys.readouterr().out
    assert "re-ranked: expand=2,augment=1,alpha=3" in shown
    assert "without" in shown
    assert main(["evaluate", str(run / "model"), "--data", str(photos), "--rerank", "expand=3,agment=2"]) == 2
    assert "augment" in capsys.readouterr().err


def test_evaluate_tells_what_small_embeddings_find(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(run), "--data", str(photos), "--compression", "--nmi", "false"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["compression"]
    assert {row["reduction"] for row in rows} == {"none", "prefix", "pca"}
    assert {row["dim"] for row in rows} == {128, 64, 32}
    assert (rows[0]["dtype"], rows[0]["bytes"]) == ("float32", 512)
    for name in ("recall@1", "map@r"):
        assert rows[0][name] == pytest.approx(found[name])
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "binary, rescored" in shown
    assert "64, pca" in shown
    # of an earlier version: the components come from the embeddings of the run
    old = shutil.copytree(run, tmp_path / "old")
    config = json.loads((old / "model" / "config.json").read_text())
    del config["compression"]
    config["fingerprint"] = _fingerprint(old / "model", config)
    (old / "model" / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", str(old), *argv[2:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["compression"]
    assert [row["recall@1"] for row in again] == pytest.approx([row["recall@1"] for row in rows])


def test_evaluate_gives_the_table_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", str(run), "--table"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    saved = json.loads((run / "metrics.json").read_text())
    same = ("name", "recall@1", "map@r", "bytes", "query_cost", "gallery_cost")
    assert [[row[n] for n in same] for row in found["retrieval"]] == [[r[n] for n in same] for r in saved["retrieval"]]
    assert found["rerank"]["options"] == saved["rerank"]["options"]
    assert main([*argv, "--rerank", "expand=2"]) == 0
    shown = capsys.readouterr().out
    assert "re-ranked" in shown
    assert "64 dimensions" in shown
    assert "binary, rescored" in shown
    # of an earlier version: no record of a choice, so one is made
    old = shutil.copytree(run, tmp_path / "old")
    (old / "metrics.json").write_text(json.dumps({"test": saved["test"]}))
    assert main(["evaluate", str(old), "--table", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["rerank"]
    assert (again["options"], again["validation"]["items"]) == (saved["rerank"]["options"], 8)
    assert main(["evaluate", str(run / "model"), "--table"]) == 2
    assert "needs that of a run" in capsys.readouterr().err
    assert main([*argv, "--data", "emoji"]) == 2
    assert "leave out --data" in capsys.readouterr().err


def test_embed_makes_small_ones(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["embed", str(run), "--data", str(photos), "--out"]
    assert main([*argv, str(tmp_path / "bits.npy"), "--dim", "20", "--dtype", "binary"]) == 0
    assert "32 x 20 binary embeddings" in capsys.readouterr().out
    assert main([*argv, str(tmp_path / "small.npz"), "--dtype", "int8"]) == 0
    model, items = pullpush.load(run), pullpush.open_items(photos)
    paths = [items.path(row) for row in range(len(items))]
    np.testing.assert_array_equal(np.load(tmp_path / "bits.npy"), model.embed(paths, dim=20, dtype="binary"))
    np.testing.assert_array_equal(np.load(tmp_path / "small.npz")["embeddings"], model.embed(paths, dtype="int8"))
    assert model.compression.reduction == "pca"
    trained = np.load(run / "embeddings" / "train-after.npy")
    np.testing.assert_allclose(model.compression.mean, trained.mean(0), atol=1e-6)
    assert main([*argv, str(tmp_path / "none.npy"), "--dim", "129"]) == 2
    assert "dim must be a whole number from 1 to 128" in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "none.npy"), "--dtype", "int4"]) == 2


@pytest.mark.parametrize("name", ["out.npy", "out.npz", "out.parquet"])
def test_embed(run: Path, photos: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    argv = ["embed", str(run), "--data", str(photos), "--out", str(out)]
    assert main(argv) == 0
    found = {
        ".npy": lambda: np.load(out),
        ".npz": lambda: np.load(out)["embeddings"],
        ".parquet": lambda: np.stack(pd.read_parquet(out)["embedding"].to_list()),
    }[out.suffix]()
    items = pullpush.open_items(photos)
    expected = pullpush.load(run).embed([items.path(row) for row in range(len(items))])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert main(argv) == 2


def test_data_shows_problems_first(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(photos)]) == 0
    assert "32 items, 8 classes" in capsys.readouterr().out
    assert main(["data", "sop"]) == 2
    assert "root" in capsys.readouterr().err


def test_data_makes_small_trees_and_compares_with_the_published_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "sop", "--make", str(tmp_path / "sop")]) == 0
    assert main(["data", "sop", "--root", str(tmp_path / "sop")]) == 0
    out = capsys.readouterr().out
    assert "59551" in out.replace(",", "")


def test_losses_lists_what_the_registry_has(capsys: pytest.CaptureFixture[str]) -> None:
    from pullpush.maths import losses

    assert main(["losses"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in losses.REGISTRY)
    assert main(["losses", "--name", "circle"]) == 0
    assert "margin" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_help_shows_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert not ended.value.code
    assert f"pullpush {verb}" in capsys.readouterr().out.partition("examples:")[2]


def test_train_help_shows_the_options_of_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--loss", "circle", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--loss.margin" in out
    assert "pullpush train --resume" in out.partition("examples:")[2]


def test_front_page_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)
    assert main(["--version"]) == 0
    assert pullpush.__version__ in capsys.readouterr().out


def test_verify(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run), "--data", str(photos), "--far", "0.1", "--far", "0.05", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["classes"]) == (32, 8)
    assert 0 <= found["eer"] <= 0.6
    assert found["tar@far=1e-1"] >= found["tar@far=5e-2"]
    assert "tar@far=1e-3" not in found
    assert main(["verify", str(run), "--data", str(photos)]) == 0
    assert "tar@far=1e-5" in capsys.readouterr().out
    for wrong in ("0", "1", "nan", "often"):
        assert main(["verify", str(run), "--far", wrong]) == 2
        assert "--far" in capsys.readouterr().err


def test_verify_shows_the_rates_of_each_group(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = pullpush.open_items(photos)
    table = pd.DataFrame({"path": [items.path(row) for row in range(len(items))], "label": items.table["label"]})
    table.assign(category=np.where(table["label"] % 2, "odd", "even")).to_csv(tmp_path / "items.csv", index=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["verify", str(run), "--data", str(tmp_path / "items.csv"), "--far", "0.1"]) == 0
    by_group = capsys.readouterr().out.partition("by group")[2]
    assert "category even" in by_group
    assert "tar@far=1e-1" in by_group


def test_verify_of_saved_embeddings_and_its_figure(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, figure = tmp_path / "photos.npz", tmp_path / "verified.png"
    assert main(["embed", str(run), "--data", str(photos), "--out", str(saved)]) == 0
    capsys.readouterr()
    assert main(["verify", str(run), "--data", str(photos), "--json"]) == 0
    of_run = json.loads(capsys.readouterr().out)
    assert main(["verify", str(saved), "--out", str(figure), "--json"]) == 0
    of_file = json.loads(capsys.readouterr().out)
    assert of_file["groups"] == []
    for name in ("eer", "positives", "negatives", "threshold", "tar@far=1e-2"):
        assert of_file[name] == pytest.approx(of_run[name], abs=1e-6)
    with Image.open(figure) as image:
        assert min(image.size) > 600
    bits = tmp_path / "bits.npz"
    assert main(["embed", str(run), "--data", str(photos), "--dtype", "binary", "--out", str(bits)]) == 0
    np.savez(tmp_path / "half.npz", embeddings=np.ones((3, 2)))
    for words, said in {
        (str(bits),): "holds bits",
        (str(tmp_path / "half.npz"),): "no array 'labels'",
        (str(tmp_path / "none.npz"),): "none.npz",
        (str(saved), "--data", str(photos)): "leave out --data",
        (str(saved), "--out", "curve.svg"): "the figure is a PNG",
    }.items():
        assert main(["verify", *words]) == 2
        assert said in capsys.readouterr().err
