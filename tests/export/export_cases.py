"""Models for other programs: what is written embeds as the model does, or nothing is written."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush.cli import main
from pullpush.data.items import Items
from pullpush.data.synthetic import make_tree
from pullpush.encoders import ImageEncoder, View, Views, load, save
from pullpush.encoders.model import Model, Role
from pullpush.encoders.runtimes.runtime import functions_of, run_by, with_runtime
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.vector import VectorEncoder
from pullpush.errors import UserError
from pullpush.export import Exported, export
from pullpush.export.check import BATCHES, run_of
from pullpush.training import train
from tests.support.texts import small_text_model
from tests.support.tiny_models import TINY
from tests.support.tiny_open_clip import tiny_open_clip

FORMATS = ("onnx", "openvino", "torch", "sentence-transformers", "hf")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seconds: four classes of eight images of different shapes, some of them tested."""
    root = tmp_path_factory.mktemp("export")
    options: dict[str, Any] = {
        "data": {"source": str(make_tree("folder", root / "tree")), "test": 0.5, "validation": 0.25},
        "encoder": {"name": "test_efficientnet", "weights": "none", "size": 32, "dim": 16},
        "batch": {"classes": 2, "samples": 2},
        "views": {"query": ["1", "1.5 flip"]},
    }
    switched_off = {"tensorboard": False, "report": False, "rerank": "none", "table": False}
    return Path(train(**options, **switched_off, steps=2, out=str(root / "run"), quiet=True))


@pytest.fixture
def images() -> list[Image.Image]:
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)) for _ in range(5)]


@pytest.fixture(scope="session")
def onnx(run: Path) -> Exported:
    return export(run, "onnx", run.parent / "onnx")


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_finds_what_the_model_finds(run: Path, onnx: Exported, tmp_path: Path, to: Any) -> None:
    exported = onnx if to == "onnx" else export(run, to, tmp_path / "out")
    check = exported.check
    assert check.images == "test"
    assert check.cosine["image"] > 0.9999
    assert check.recall == pytest.approx(check.recall_of_model, abs=0.003)
    assert exported.size == sum(file.stat().st_size for file in exported.folder.rglob("*") if file.is_file())
    assert "recall@1" in (exported.folder / "README.md").read_text()


def test_onnx_runs_as_its_card_says(run: Path, onnx: Exported, images: list[Image.Image], tmp_path: Path) -> None:
    """The code of the card, in a program that knows nothing of pullpush, with batches of any size."""
    card = (onnx.folder / "README.md").read_text()
    images[0].save(tmp_path / "cat.png")
    code = card.partition("```python\n")[2].partition("```")[0]
    code = code.replace("image.onnx", str(onnx.folder / "image.onnx"))
    code = code.replace('"cat.png"', repr(str(tmp_path / "cat.png")))
    said: dict[str, Any] = {}
    exec(code, said)
    model = load(run)
    mine = np.asarray(model.image.eval()(model.image.prepare(images[:1])).detach())
    np.testing.assert_allclose(said["embeddings"], mine, atol=1e-5)
    session, given = said["session"], model.preprocess(images)
    assert given.shape == (5, 3, 32, 32)
    assert given.dtype == np.float32
    assert 0 <= given.min() < given.max() <= 1
    for n in (1, 2, 5):
        np.testing.assert_allclose(np.linalg.norm(session.run(None, {"images": given[:n]})[0], axis=1), 1, atol=1e-5)


def test_a_runtime_serves_all_views(run: Path, onnx: Exported, images: list[Image.Image]) -> None:
    roles: tuple[Role, ...] = ("query", "gallery")
    wanted = [load(run).embed(images, role=role) for role in roles]
    for model in (with_runtime(load(run), "openvino"), run_by(load(run), functions_of("onnx", onnx.folder))):
        for role, mine in zip(roles, wanted, strict=True):
            np.testing.assert_allclose(model.embed(images, role=role), mine, atol=1e-4)


@pytest.mark.parametrize("towers", ["", "image", "text"])
@pytest.mark.parametrize("to", ["onnx", "sentence-transformers"])
def test_images_and_texts_in_one_space(tmp_path: Path, images: list[Image.Image], to: Any, towers: str) -> None:
    """One of the towers may be of transformers, which does not make it a joint model of that."""
    torch.manual_seed(0)
    name = f"hf:{TINY['clip'](tmp_path / 'clip')}" if towers else ""
    image = ImageEncoder(name if towers == "image" else "test_vit", weights="none", size=32, dim=16)
    text = TextEncoder(name if towers == "text" else small_text_model(tmp_path / "text"), dim=16)
    save(tmp_path / "model", image, text)
    with pytest.raises(UserError, match="of other encoders than that of images has no place"):
        export(tmp_path / "model", "hf", tmp_path / "hf")
    export(tmp_path / "model", to, tmp_path / "out")
    model, texts = load(tmp_path / "model"), ["a red fruit", "one", "a much longer sentence of many words"]
    if to == "onnx":
        other = run_by(load(tmp_path / "model"), functions_of("onnx", tmp_path / "out"))
        found = [other.embed(images), other.embed_text(texts)]
    else:
        from sentence_transformers import SentenceTransformer

        whole: Any = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        found = [whole.encode(images), whole.encode(texts)]
    for mine, wanted in zip(found, [model.embed(images), model.embed_text(texts)], strict=True):
        # transformers resizes by itself
        np.testing.assert_allclose(mine, wanted, atol=1e-3 if towers == "image" else 1e-4)


def test_texts_of_open_clip_have_no_place_beside_sentence_transformers(tmp_path: Path) -> None:
    text = TextEncoder(f"open_clip:{tiny_open_clip(tmp_path / 'clip')}", dim=16)
    save(tmp_path / "model", ImageEncoder("test_vit", weights="none", size=32, dim=16), text)
    with pytest.raises(UserError, match=r"text models of open_clip have no place in --to sentence-transformers"):
        export(tmp_path / "model", "sentence-transformers", tmp_path / "out")


def test_eight_bits(run: Path, onnx: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "onnx", "--int8", "--out", str(tmp_path / "small"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["int8"]
    assert 0.8 < said["cosine"]["image"] < 1
    whole, small = ((folder / "image.onnx.data").stat().st_size for folder in (onnx.folder, tmp_path / "small"))
    assert small < 0.4 * whole
    values = 4 * sum(parameter.numel() for parameter in load(run).image.parameters())
    assert whole == pytest.approx(values, rel=0.05)  # once for both sizes
    assert "eight bits" in (tmp_path / "small" / "README.md").read_text()


def test_an_export_that_embeds_otherwise_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = export.__globals__["_written"]
    monkeypatch.setitem(export.__globals__, "_written", lambda *given: _turned(whole(*given)))
    with pytest.raises(UserError, match=r"embeds images otherwise than the model: the least cosine is 0\.9"):
        export(run, "torch", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_its_test_images_the_run_is_still_exported(run: Path, tmp_path: Path) -> None:
    """As far as recall@1 can't be measured any more, it is left out."""
    shutil.copytree(run, tmp_path / "run")
    items = Items.load(run / "items.parquet")
    test = np.flatnonzero(items.table["split"] == "test")
    drawn = np.random.default_rng(0).permutation(len(test))[: sum(BATCHES)]
    gone = np.setdiff1d(np.arange(len(test)), drawn)[0]
    paths = [str(tmp_path / "gone.png") if row == test[gone] else path for row, path in enumerate(items.table["path"])]
    items.assign(path=paths).save(tmp_path / "run" / "items.parquet")
    found = export(tmp_path / "run", "torch", tmp_path / "out").check
    assert (found.images, found.recall) == ("test", None)


def test_a_runtime_that_embeds_otherwise_leaves_the_model_as_it_was(
    images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model([ImageEncoder("test_vit", weights="none", size=32, dim=16)], "")
    wanted, whole = model.embed(images), with_runtime.__globals__["functions_of"]
    monkeypatch.setitem(with_runtime.__globals__, "functions_of", lambda *given: _turned(whole(*given)))
    with pytest.raises(UserError, match="encoders of the kind 'vector' can't be exported"):
        with_runtime(Model([VectorEncoder(4, dim=2)], ""), "torch")
    with pytest.raises(UserError, match=r"torch embeds images otherwise than PyTorch \(cosine 0\.9"):
        with_runtime(model, "torch")
    np.testing.assert_array_equal(model.embed(images), wanted)


def test_a_library_s_model_belongs_to_no_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert run_of(Path("timm:test_resnet")) is None
    assert all(each is not None and each.path == run for each in (run_of(run), run_of(Path("model"))))


def _turned(embeds: dict[str, Any]) -> dict[str, Any]:
    """An export whose embeddings are a little off."""
    return {kind: lambda given, embed=embed: embed(given) + 0.05 for kind, embed in embeds.items()}


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for wrong, given in {
        r"there is no format 'onx'.*onnx": {"to": "onx"},
        r"exists already": {"to": "torch", "out": tmp_path / "there"},
        r"int8 is of --to onnx": {"to": "hf", "int8": True},
    }.items():
        with pytest.raises(UserError, match=wrong):
            export(run, **({"out": tmp_path / "out"} | given))  # type: ignore[arg-type]
    save(tmp_path / "mlp", ImageEncoder("test_vit", weights="none", size=32, dim=16, head="mlp"))
    with pytest.raises(UserError, match="mlp head has no place"):
        export(tmp_path / "mlp", "hf", tmp_path / "out")
    with pytest.raises(UserError, match="eight bits need training images"):
        export(tmp_path / "mlp", "onnx", tmp_path / "out", int8=True)
    with pytest.raises(UserError, match="no model in"):
        export(tmp_path / "nothing", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "files", "weights"),
    [
        ("openvino", {"image.xml", "image-24.xml", "image.bin"}, "image.bin"),
        ("torch", {"image.pt2", "image-24.pt2"}, None),
    ],
)
def test_views_of_other_sizes_have_graphs_of_their_own(
    tmp_path: Path, images: list[Image.Image], to: Any, files: set[str], weights: str | None
) -> None:
    """Their weights are written once, where the format has a place for that; each graph embeds as the model does."""
    encoder = ImageEncoder("test_efficientnet", weights="none", size=32, dim=16)
    save(tmp_path / "model", encoder, views=Views((View(),), (View(), View(0.75, flip=True))))
    exported = export(tmp_path / "model", to, tmp_path / "out")
    assert {file.name for file in exported.folder.iterdir()} == {"README.md"} | files
    model = load(tmp_path / "model")
    other = run_by(load(tmp_path / "model"), functions_of(to, exported.folder))
    np.testing.assert_allclose(other.embed(images), model.embed(images), atol=1e-4)
    if weights:
        values = 4 * sum(parameter.numel() for parameter in model.image.parameters())
        assert (exported.folder / weights).stat().st_size == pytest.approx(values, rel=0.05)


def _encoder(kind: type[Any], name: str, **options: Any) -> Any:
    """With a head whose bias is not zero."""
    encoder = kind(name, dim=16, **{"head": "linear"} | options)
    if encoder.head_name == "linear":
        torch.nn.init.normal_(encoder.head.bias, std=0.1, generator=torch.Generator().manual_seed(1))
    return encoder


@pytest.mark.parametrize("name", TINY)
def test_image_models_of_transformers_in_layouts_of_the_hub(tmp_path: Path, name: str) -> None:
    """Each is compared as it is written, read by its own library alone; a head without a place is refused."""
    encoder = _encoder(ImageEncoder, f"hf:{TINY[name](tmp_path / name)}", size=32)
    save(tmp_path / "model", encoder)
    assert export(tmp_path / "model", "sentence-transformers", tmp_path / "st").check.cosine["image"] > 0.9999
    if name in ("clip", "dinov2", "vit", "convnext"):
        assert export(tmp_path / "model", "hf", tmp_path / "hf").check.cosine["image"] > 0.9999
    else:
        with pytest.raises(UserError, match=r"the head of this model has no place .* sentence-transformers, onnx,"):
            export(tmp_path / "model", "hf", tmp_path / "hf")
        save(tmp_path / "plain", _encoder(ImageEncoder, encoder.name, size=32, head="none"))
        assert export(tmp_path / "plain", "hf", tmp_path / "hf").check.cosine["image"] > 0.9999


def test_a_joint_model_of_transformers_stays_one(tmp_path: Path, images: list[Image.Image]) -> None:
    """CLIP with heads: in the layout of transformers, by the code of its card, and in that of sentence-transformers."""
    name = f"hf:{TINY['clip'](tmp_path / 'clip')}"
    encoders = _encoder(ImageEncoder, name, size=32), _encoder(TextEncoder, name)
    save(tmp_path / "model", *encoders)
    model, said = load(tmp_path / "model"), dict[str, Any]()
    exported = export(tmp_path / "model", "hf", tmp_path / "hf")
    square = images[0].resize((32, 32))
    square.save(tmp_path / "cat.png")
    code = (exported.folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    exec(
        code.replace('"FOLDER"', repr(str(exported.folder))).replace('"cat.png"', repr(str(tmp_path / "cat.png"))), said
    )
    np.testing.assert_allclose(said["images"], model.embed([square]), atol=1e-3)
    np.testing.assert_allclose(said["texts"], model.embed_text(["a cat"]), atol=1e-4)
    whole = export(tmp_path / "model", "sentence-transformers", tmp_path / "st")
    assert (whole.folder / "1_Normalize").is_dir()
    assert min(whole.check.cosine.values()) > 0.9999


def test_towers_of_siglip_keep_their_padding(tmp_path: Path) -> None:
    name = f"hf:{TINY['siglip'](tmp_path / 'siglip')}"
    save(tmp_path / "plain", *(_encoder(kind, name, head="none") for kind in (ImageEncoder, TextEncoder)))
    for to in ("hf", "sentence-transformers"):
        assert min(export(tmp_path / "plain", to, tmp_path / to).check.cosine.values()) > 0.9999  # type: ignore[arg-type]
    save(tmp_path / "model", *(_encoder(kind, name) for kind in (ImageEncoder, TextEncoder)))
    with pytest.raises(UserError, match=r"no place behind a SiglipTextModel .* export it --to onnx, openvino or torch"):
        export(tmp_path / "model", "sentence-transformers", tmp_path / "out")


def test_joint_towers_as_graphs(tmp_path: Path, images: list[Image.Image]) -> None:
    """int64 tokens in: CLIP of transformers by ONNX Runtime, SigLIP of open_clip by torch.export."""
    texts = ["a red fruit", "one", "a longer one of words"]
    names = {
        "onnx": f"hf:{TINY['clip'](tmp_path / 'hf')}",
        "torch": f"open_clip:{tiny_open_clip(tmp_path / 'oc', 'siglip')}",
    }
    for to, name in names.items():
        folder, runtime = tmp_path / to, cast(Any, to)
        save(folder / "model", _encoder(ImageEncoder, name), _encoder(TextEncoder, name))
        export(folder / "model", runtime, folder / "out")
        model, other = load(folder / "model"), run_by(load(folder / "model"), functions_of(runtime, folder / "out"))
        np.testing.assert_allclose(other.embed(images), model.embed(images), atol=1e-4)
        np.testing.assert_allclose(other.embed_text(texts), model.embed_text(texts), atol=1e-4)
    save(tmp_path / "image", model.image)
    with pytest.raises(UserError, match=r"image models of open_clip have no place .* onnx, openvino or torch"):
        export(tmp_path / "image", "sentence-transformers", tmp_path / "st")
