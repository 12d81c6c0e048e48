"""An index of a model that was not trained here: built, searched by words and served, without any training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from pullpush import search
from pullpush.cli import main
from pullpush.encoders import hub, load
from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.search import layout, origin
from pullpush.server.app import make_app
from pullpush.server.connections import Connections
from pullpush.server.middleware import Rules
from pullpush.server.service import Service
from tests.support.fake import write_folder
from tests.support.tiny_models import tiny_clip
from tests.support.tiny_open_clip import tiny_open_clip

TEXTS = ["red", "a green square", "it is blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP, images, and an index of them by the command line."""
    root = tmp_path_factory.mktemp("joint")
    write_folder(root / "images", each=4)
    name = f"hf:{tiny_clip(root / 'clip')}"
    words = ["--images", str(root / "images"), "--out", str(root / "index"), "--projection", "none"]
    assert main(["index", "--model", name, *words]) == 0
    return root


@pytest.fixture(scope="module")
def joint(folder: Path) -> Model:
    return load(f"hf:{folder / 'clip'}")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same index, with a model that a test may change."""
    for each in ("clip", "index"):
        shutil.copytree(folder / each, tmp_path / each)
    record = _record(tmp_path / "index")
    values = json.loads(record.read_text()) | {"model": f"hf:{tmp_path / 'clip'}"}
    record.write_text(json.dumps(values))
    (tmp_path / "index" / "CURRENT").write_text(f"000001 {layout.digest(record)}\n")
    return tmp_path


def _record(index: Path) -> Path:
    return index / "versions" / "000001" / "manifest.json"


def _scores(joint: Model, folder: Path, text: str) -> dict[str, float]:
    """The cosines of a text with all images, by the model alone."""
    paths = sorted((folder / "images").rglob("*.*"))
    cosines = joint.embed(paths) @ joint.embed_text(text)[0]
    return {str(path): float(cosine) for path, cosine in zip(paths, cosines, strict=True)}


@pytest.mark.parametrize("text", TEXTS)
def test_words_find_what_the_model_itself_says(folder: Path, joint: Model, text: str) -> None:
    engine = search.open(folder / "index")
    hits = engine.query(text=text, k=24)
    wanted = _scores(joint, folder, text)
    assert len(hits) == len(wanted) == 24
    np.testing.assert_allclose([hit.score for hit in hits], [wanted[hit.path] for hit in hits], atol=1e-4)
    np.testing.assert_allclose([hit.score for hit in hits], sorted(wanted.values(), reverse=True), atol=1e-4)


def test_the_record_says_how_to_load_it_again(folder: Path, joint: Model) -> None:
    manifest = search.open(folder / "index").manifest
    assert manifest.model == f"hf:{folder / 'clip'}"
    assert (manifest.fingerprint, manifest.dim, manifest.text) == (joint.fingerprint, joint.dim, True)
    assert load(manifest.model, weights=manifest.weights).fingerprint == manifest.fingerprint


def test_the_command_line_searches_and_updates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(folder / "index"), "red", "--json", "-k", "3"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    words = ["index", f"hf:{folder / 'clip'}", "--images", str(folder / "images")]
    assert main([*words, "--out", str(folder / "index"), "--projection", "none"]) == 0
    assert "0 new, 0 changed, 0 removed, 24 unchanged" in capsys.readouterr().out


def test_it_is_served(folder: Path, joint: Model) -> None:
    engine = search.open(folder / "index")
    app = make_app(Service(engine, 8, []), Rules(None, None, timeout=60), True, Connections())
    with TestClient(app) as client:
        answer = client.get("/api/search", params={"text": TEXTS[1], "k": 5, "cut_off": -10})
        assert answer.status_code == 200, answer.text
        hits = answer.json()["hits"]
        best = sorted(_scores(joint, folder, TEXTS[1]).values(), reverse=True)[:5]
        np.testing.assert_allclose([hit["score"] for hit in hits], best, atol=1e-4)
        like = client.get("/api/search", params={"like": hits[0]["id"], "k": 2})
        assert len(like.json()["hits"]) == 2


def test_a_model_that_has_changed_is_refused(copy: Path) -> None:
    weights = copy / "clip" / "model.safetensors"
    tensors = load_file(weights)
    tensors["text_projection.weight"][0, 0] += 1
    save_file(tensors, weights, {"format": "pt"})
    engine = search.open(copy / "index")
    with pytest.raises(UserError, match="embeddings of two models cannot be compared"):
        engine.query(text="red")
    assert engine.query(like=1, k=3)  # which needs no model


def test_an_index_of_others_downloads_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hub, "hub_reachable", lambda: bool(asked.append("the hub")))
    record = _record(copy / "index")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model": "hf:nobody/model"}))
    (copy / "index" / "CURRENT").write_text(f"000001 {layout.digest(record)}\n")
    engine = search.open(copy / "index")
    assert not engine.version.made_here
    with pytest.raises(UserError, match="'nobody/model' is neither a folder nor cached"):
        engine.query(text="red")
    assert not asked
    origin.note(engine.manifest, engine.version.folder)
    with pytest.raises(UserError, match="'nobody/model' is neither a folder nor cached"):
        search.open(copy / "index").query(text="red")
    assert asked


def test_open_clip_by_a_name_without_an_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is called by the model, and finds it again from wherever it is searched."""
    write_folder(tmp_path / "images", each=2)
    tiny_open_clip(tmp_path / "clip", "vit")
    monkeypatch.chdir(tmp_path)
    assert main(["index", "--model", "open_clip:clip", "--images", "images", "--projection", "none"]) == 0
    monkeypatch.chdir("/")
    hits = search.open(tmp_path / "indexes" / "open_clip-clip").query(text="red", k=12)
    model = load(f"open_clip:{tmp_path / 'clip'}")
    own = model.embed([hit.path for hit in hits]) @ model.embed_text("red")[0]
    np.testing.assert_allclose([hit.score for hit in hits], own, atol=1e-5)


def test_images_alone_with_a_file_of_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import timm
    import torch

    write_folder(tmp_path / "images", each=2)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pt")
    index, model = str(tmp_path / "index"), ["timm:test_resnet", "--weights", str(tmp_path / "weights.pt")]
    words = ["--images", str(tmp_path / "images"), "--out", index, "--projection", "none"]
    assert main(["index", *model, *words]) == 0
    image = str(next((tmp_path / "images").rglob("*.*")))
    assert main(["search", index, "--image", image, "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[0]["path"] == image
    assert main(["search", index, "red"]) == 2
    assert "has no text encoder; search by images or items" in capsys.readouterr().err
    assert main(["enroll", index, f"somebody={image}"]) == 0
    assert main(["identify", index, image]) in (0, 2)  # one class may be too few to tell a rate
    (tmp_path / "weights.pt").unlink()
    assert main(["search", index, "--image", image]) == 2
    assert "no weights file at" in capsys.readouterr().err
    assert main(["enroll", str(tmp_path / "new"), f"a={image}", "--weights", "x.pt"]) == 2
    assert "--weights is of a --model" in capsys.readouterr().err
