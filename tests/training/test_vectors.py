"""The task of vectors: what another model made of things, here the pixels of scanned digits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import pullpush
from pullpush.cli import main
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.encoders.vector import VectorEncoder
from pullpush.errors import UserError
from pullpush.runs.folder import open_run
from pullpush.runs.log import read_log
from pullpush.training import train

DIGITS = load_digits()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "digits.npz"
    np.savez(path, vectors=DIGITS.data[:1000] * 1e3, labels=DIGITS.target[:1000])
    return path


def options(file: Path, **more: Any) -> dict[str, Any]:
    data = {"source": "vectors", "root": str(file), "test": 0.4, "validation": 0.2}
    return {"task": "vector", "data": data, "encoder": {"dim": 32}, "steps": 40, "quiet": True, "report": False, **more}


def test_a_head_on_vectors_is_trained_and_kept(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(**options(file, out=str(tmp_path / "run"), optimizer={"lr": 1e-2}))
    losses = [line["train/loss"] for line in read_log(run / "log.jsonl") if "train/loss" in line]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    items = Items.load(run / "items.parquet").split("test")
    assert len(items.labels.unique()) == 4
    given = np.stack(items.table["vector"].to_list())
    model = pullpush.load(run)
    np.testing.assert_allclose(
        model.embed_as("vector", given), np.load(run / "embeddings" / "test-after.npy"), atol=1e-5
    )
    encoder = model.encoders["vector"]
    assert encoder(encoder.prepare([])).shape == (0, 32)
    with pytest.raises(UserError, match="no image encoder, only vector"):
        model.embed("cat.png")
    with pytest.raises(UserError, match="vector 1 must be 64 finite numbers"):
        model.embed_as("vector", [given[0], given[1][:3]])
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    test = json.loads((run / "metrics.json").read_text())["test"]["after"]
    assert json.loads(capsys.readouterr().out)["recall@1"] == pytest.approx(test["recall@1"])
    image = np.asarray(items.open(0).convert("L"))
    assert image.shape == (8, 8)
    assert image.std() > 0
    assert "recall@1" in pullpush.report(run).read_text()


def test_resumed_ends_as_the_uninterrupted_run(file: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if step == 30:
            raise Enough

    more = {"checkpoint_every": 20, "memory": {"size": 64, "fill": True, "start_step": 5}}
    whole = train(**options(file, out=str(tmp_path / "whole"), **more))
    with pytest.raises(Enough):
        train(**options(file, out=str(tmp_path / "cut"), **more), callbacks=(stop,))
    train(resume=tmp_path / "cut", quiet=True)
    for name in ("test-before", "test-after", "train-after"):
        one, other = (np.load(folder / "embeddings" / f"{name}.npy") for folder in (whole, tmp_path / "cut"))
        assert np.array_equal(one, other)


def test_features_of_a_head_alone_are_the_standardised_vectors(file: Path, tmp_path: Path) -> None:
    run = train(**options(file, out=str(tmp_path / "run"), encoder={"head": "none", "dim": 64}, loss="proxy_anchor"))
    items = Items.load(run / "items.parquet")
    x = np.stack(items.table["vector"].to_list()).astype(np.float64)
    train_x = x[(items.table["split"] == "train").to_numpy()]
    deviation = train_x.std(0)
    whitened = np.where(deviation > 0, (x - train_x.mean(0)) / np.where(deviation > 0, deviation, 1), 0)
    whitened = whitened[(items.table["split"] == "validation").to_numpy()][:, deviation > 0]
    saved = np.load(run / "embeddings" / "validation-after.npy")[:, deviation > 0]
    unit = saved / np.linalg.norm(saved, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, whitened / np.linalg.norm(whitened, axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"vectors": np.zeros((3, 4))}, "no array 'labels'"),
        ({"vectors": np.zeros(3), "labels": np.arange(3)}, r"vectors must be \[n, d\]"),
        ({"vectors": np.zeros((3, 4)), "labels": np.arange(2)}, r"labels must be \[3\]"),
        ({"vectors": np.full((3, 4), np.nan), "labels": np.arange(3)}, "not finite, the first is vector 0"),
        ({"vectors": np.full((3, 4), [[1], [1e300], [1]]), "labels": np.arange(3)}, "the first is vector 1; .*float32"),
        ({"vectors": np.array([["a"]]), "labels": np.arange(1)}, "bad.npz"),
    ],
)
def test_bad_files_are_named(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_items("vectors", root=tmp_path / "bad.npz")
    with pytest.raises(UserError, match=r"--data.root FILE.npz"):
        open_items("vectors")


def test_a_column_that_is_constant_in_training_counts_for_nothing() -> None:
    """A value that appears in the test alone must not outweigh all others."""
    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * [1, 1e-8, 1] + [0, 0, 0.1]
    vectors[:, 2] = np.float32(0.1)
    vectors[30:, 2] = 7
    items = Items.build("some", ["-"] * 40, ["a", "b"] * 20, split=["train"] * 30 + ["test"] * 10, vector=list(vectors))
    encoder = VectorEncoder.for_items(items, dim=2, head="linear", hidden=8, dropout=0.0, seed=0)
    features = encoder.features(encoder.prepare(VectorEncoder.of_items(items)))
    assert (features[:, 2] == 0).all()
    torch.testing.assert_close(features[:30, :2].std(0, correction=0), torch.ones(2))


def test_items_without_vectors_are_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(UserError, match=r"no vectors.*--data vectors"):
        train(task="vector", data=str(photos), out=str(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_vectors_with_texts_share_one_space(file: Path, tmp_path: Path, transformer: str) -> None:
    with np.load(file) as arrays:
        np.savez(tmp_path / "named.npz", **arrays, texts=np.array([f"the digit {n}" for n in arrays["labels"]]))
    data = {"source": "vectors", "root": str(tmp_path / "named.npz"), "test": 0.4, "validation": 0.2}
    run = train(
        task="vector-text", data=data, steps=3, text={"name": transformer}, out=str(tmp_path / "run"), quiet=True
    )
    assert open_run(run).loss.name == "n_pair"  # as for images with texts
    items, model = Items.load(run / "items.parquet").split("test"), pullpush.load(run)
    folder = run / "embeddings"
    given = items.table["vector"].to_list()
    np.testing.assert_allclose(model.embed_as("vector", given), np.load(folder / "test-after.npy"), atol=1e-5)
    texts = pd.read_parquet(run / "texts.parquet")
    words = model.embed_text(list(texts[texts["split"] == "test"]["text"]))
    np.testing.assert_allclose(words, np.load(folder / "test-after-text.npy"), atol=1e-4)
