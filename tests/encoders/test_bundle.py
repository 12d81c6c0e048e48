"""The bundle: what is loaded is what was saved, or a clear refusal."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pullpush.encoders import Compression, ImageEncoder, Rerank, TextEncoder, View, Views, load, save
from pullpush.encoders.bundle import _fingerprint
from pullpush.encoders.encoder import Encoder, Stored
from pullpush.errors import UserError
from tests.support import alone


def small(**options) -> ImageEncoder:
    return ImageEncoder("test_resnet", **{"weights": "none", "dim": 8, "size": 32, **options})


def pictures(n: int = 5) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 40, 37, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


@pytest.fixture
def bundle(tmp_path) -> Path:
    save(tmp_path / "run" / "model", small())
    return tmp_path / "run" / "model"


def test_round_trip_of_the_default_encoder(tmp_path) -> None:
    """Trained head and statistics included, without the pretrained weights at hand."""
    encoder = ImageEncoder(head="mlp", dim=16, frozen_norm=False)
    encoder(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))  # moves the statistics
    fingerprint = save(tmp_path / "model", encoder, extra={"run": "a"})
    model = load(tmp_path / "model")
    with torch.no_grad():
        expected = encoder.eval()(encoder.preprocessing(pictures()))
    np.testing.assert_allclose(model.embed(pictures()), expected, atol=1e-6)
    assert model.fingerprint == fingerprint
    assert model.preprocessing == encoder.preprocessing
    assert model.extra == {"run": "a"}
    assert (model.dim, model.image.loaded.source) == (16, "bundle")
    assert model.image.frozen_norm is False


def test_round_trip_with_text(tmp_path) -> None:
    text = TextEncoder(dim=8)
    save(tmp_path / "model", small(), text)
    model = load(tmp_path / "model")
    words = ["a smiling cat", "pizza"]
    np.testing.assert_allclose(model.embed_text(words), text.eval()(words).detach(), atol=1e-6)
    assert model.embed_text("pizza").shape == (1, 8)
    assert model.embed_text([]).shape == (0, 8)
    assert save(tmp_path / "again", model.image, model.text) == model.fingerprint


def test_a_bundle_of_the_first_format_loads(tmp_path: Path) -> None:
    """Written here as the first release wrote it: keys of tensors and options, and what the fingerprint is of."""
    image, text = small().eval(), TextEncoder(dim=8).eval()
    folder = tmp_path / "model"
    text.save_backbone(folder / "text")
    tensors = {f"image.backbone.{key}": value for key, value in image.backbone.state_dict().items()}
    tensors |= {f"image.head.{key}": value for key, value in image.head.state_dict().items()}
    tensors |= {f"text.head.{key}": value for key, value in text.head.state_dict().items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors")
    both = {"dim": 8, "hidden": 512, "dropout": 0.0, "normalize": True}
    own = {"size": 32, "frozen_stages": 0, "frozen_norm": False, "mean": [0.485, 0.456, 0.406], "std": [0.5] * 3}
    config = {
        "format": "pullpush model",
        "version": 1,
        "image": {"name": "test_resnet", "head": "linear", "freeze": False, **both, **own},
        "text": {"name": "all-MiniLM-L6-v2", "head": "mlp", "freeze": True, **both},
        "timm": "1.0.0",
        "loaded": "none: 0 of 0 tensors",
        "extra": {"task": "image-text"},
    }
    digest = hashlib.sha256(json.dumps([config["image"], config["text"]], sort_keys=True).encode())
    for file in [
        folder / "model.safetensors",
        *sorted(each for each in (folder / "text").rglob("*") if each.is_file()),
    ]:
        digest.update(file.relative_to(folder).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    (folder / "config.json").write_text(json.dumps({**config, "fingerprint": digest.hexdigest()}))
    model = load(folder)
    assert model.fingerprint == digest.hexdigest()
    assert (model.preprocessing.size, model.preprocessing.std) == (32, (0.5, 0.5, 0.5))
    with torch.no_grad():
        np.testing.assert_allclose(model.embed(pictures()), image(model.preprocessing(pictures())), atol=1e-6)
        np.testing.assert_allclose(model.embed_text(["pizza"]), text(["pizza"]), atol=1e-6)
    assert save(tmp_path / "again", model.image, model.text) == model.fingerprint


class PulseEncoder(Encoder):
    """Of series of eight numbers: a third kind, in one class."""

    kind = "pulse"

    def __init__(self, dim: int = 8) -> None:
        options = {"head": "linear", "hidden": 4, "dropout": 0.0, "freeze": True, "normalize": True}
        super().__init__("pulse", torch.nn.Linear(8, 6), 6, dim=dim, **options)
        self.train()

    def prepare(self, given, first: int = 0) -> torch.Tensor:
        return torch.tensor(given, dtype=torch.float32, device=self.device)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.backbone(inputs).relu()

    @classmethod
    def rebuild(cls, stored: Stored) -> "PulseEncoder":
        encoder = cls(stored.config["dim"])
        encoder.load_state_dict(stored.tensors)
        return encoder


@pytest.mark.parametrize("beside", [True, False])
def test_a_third_kind_is_one_class(tmp_path: Path, beside: bool) -> None:
    pulse = PulseEncoder()
    assert not pulse.backbone.training
    assert {group["name"] for group in pulse.parameter_groups(1e-3)} == {"head/weights", "head/biases_and_norms"}
    fingerprint = save(tmp_path / "model", small() if beside else None, pulse)
    model = load(tmp_path / "model")
    assert model.fingerprint == fingerprint
    series = np.random.default_rng(0).normal(size=(5, 8)).tolist()
    with torch.no_grad():
        np.testing.assert_allclose(model.embed_as("pulse", series, 2), pulse(torch.tensor(series)), atol=1e-6)
    assert (model.text, "image" in model.encoders) == (None, beside)
    if not beside:
        with pytest.raises(UserError, match="no image encoder, only pulse"):
            model.embed(pictures())


def test_an_unknown_kind_is_refused(bundle: Path) -> None:
    edited(bundle, encoders={"../smell": {}})
    with pytest.raises(UserError, match=r"encoders of the kind '\.\./smell' are not known, only image, text"):
        load(bundle)


def test_a_run_folder_is_its_model(bundle: Path) -> None:
    assert load(bundle.parent).fingerprint == load(str(bundle)).fingerprint


def test_the_fingerprint_is_of_weights_and_use(tmp_path) -> None:
    def of(encoder: ImageEncoder, name: str, **extra) -> str:
        return save(tmp_path / name, encoder, extra=extra)

    first = of(small(), "first")
    assert of(small(), "same", note="extra does not count") == first
    nudged = small()
    with torch.no_grad():
        nudged.head.bias[0] += 1e-6
    other_size = small()
    object.__setattr__(other_size.preprocessing, "size", 48)
    assert len({first, of(nudged, "nudged"), of(other_size, "size"), of(small(seed=1), "seed")}) == 4


def test_a_model_has_one_encoder_of_a_kind(tmp_path) -> None:
    for encoders, kinds in (((), r"\[\]"), ((None,), r"\[\]"), ((small(), small()), r"\['image', 'image'\]")):
        with pytest.raises(UserError, match=f"one of a kind, not {kinds}"):
            save(tmp_path / "model", *encoders)
    assert not (tmp_path / "model").exists()


def test_embed_takes_paths_pictures_and_arrays_alike(bundle: Path, tmp_path) -> None:
    model = load(bundle)
    images = pictures()
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    expected = model.embed(images)
    assert expected.shape == (5, 8)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    for same in (paths, [str(path) for path in paths], np.stack([np.asarray(i) for i in images]), iter(images)):
        np.testing.assert_array_equal(model.embed(same), expected)
    np.testing.assert_allclose(model.embed(images, batch_size=2, progress=True), expected, atol=1e-6)
    for one in (images[0], paths[0], np.asarray(images[0])):
        np.testing.assert_allclose(model.embed(one), expected[:1], atol=1e-6)
    assert model.embed([]).shape == (0, 8)
    assert model.preprocess([]).shape == (0, 3, 32, 32)


def test_embed_decodes_like_everyone_else(bundle: Path) -> None:
    """Grey arrays, transparency and lazily opened files all pass through `to_rgb`."""
    model = load(bundle)
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    white = Image.new("RGB", (32, 32), "white")
    np.testing.assert_array_equal(model.embed([clear, np.asarray(clear)]), model.embed([white, white]))
    grey = np.asarray(pictures(1)[0].convert("L"))
    np.testing.assert_array_equal(model.embed([grey]), model.embed([np.stack([grey] * 3, axis=-1)]))


def test_embedding_without_normalisation_in_training_is_normalised_in_use(tmp_path) -> None:
    save(tmp_path / "model", small(normalize=False))
    np.testing.assert_allclose(np.linalg.norm(load(tmp_path / "model").embed(pictures()), axis=1), 1, atol=1e-6)


def test_embed_errors_name_the_image(bundle: Path, tmp_path) -> None:
    model = load(bundle)
    whole = tmp_path / "whole.png"
    pictures(1)[0].save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:500])
    cases = [
        ([whole, cut], "cut.png"),
        ([Image.open(cut)], "cut.png"),
        ([tmp_path / "gone.png"], "gone.png"),
        ([np.zeros((4, 4, 3))], r"number 0 is an array of float64 \[4, 4, 3\].*uint8"),
        ([pictures(1)[0], np.zeros((4, 4, 5), np.uint8)], "number 1"),
        ([7], "number 0 is a int"),
    ]
    for images, message in cases:
        with pytest.raises(UserError, match=message):
            model.embed(images)
    with pytest.raises(UserError, match="batch size must be at least 1"):
        model.embed(pictures(), batch_size=0)
    with pytest.raises(UserError, match=r"no text encoder, only image.*image-text"):
        model.embed_text(["a cat"])


def test_nothing_is_overwritten_unasked(bundle: Path) -> None:
    before = load(bundle).fingerprint
    with pytest.raises(UserError, match="model' exists already"):
        save(bundle, small(seed=1))
    assert load(bundle).fingerprint == before
    assert save(bundle, small(seed=1), replace=True) == load(bundle).fingerprint != before
    assert os.listdir(bundle.parent) == ["model"]


def edited(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def swap_tensors(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["image.head.bias"] = tensors["image.head.bias"] + 1
    save_file(tensors, folder / "model.safetensors")


DAMAGE = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "no model in"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "cut weights": (cut_weights, "do not match its fingerprint"),
    "other weights": (swap_tensors, "do not match its fingerprint"),
    "other options": (lambda folder: edited(folder, image={"name": "resnet18"}), "do not match its fingerprint"),
    "half a config": (
        lambda folder: (folder / "config.json").write_text('{"format": "pull'),
        "config.json.*is not JSON",
    ),
    "foreign config": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
        "looks like a model of another library.*hf:",
    ),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json.*it is a list"),
    "bare config": (
        lambda folder: (folder / "config.json").write_text('{"format": "pullpush model", "version": 1}'),
        "config.json.*it has no 'image'",
    ),
    "later version": (lambda folder: edited(folder, version=2), "version 2; this pullpush reads .* version 1"),
    "no folder": (shutil.rmtree, "no model in"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_by_name(bundle: Path, damage: str) -> None:
    harm, message = DAMAGE[damage]
    harm(bundle)
    with pytest.raises(UserError, match=message) as caught:
        load(bundle)
    assert str(bundle) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write .*file/model'.*choose a place"):
        save(tmp_path / "file" / "model", small())


def test_a_failed_save_leaves_the_old_model_and_no_rubbish(bundle: Path, monkeypatch) -> None:
    before = load(bundle).fingerprint

    def full(*_) -> None:
        raise OSError("No space left")

    monkeypatch.setattr("pullpush.encoders.bundle.save_file", full)
    with pytest.raises(UserError, match=r"can't write .*model': the disk is full"):
        save(bundle, small(seed=1), replace=True)
    assert load(bundle).fingerprint == before
    assert os.listdir(bundle.parent) == ["model"]


KILLED = """
import os, shutil, sys
from functools import partial
from pathlib import Path

import torch

torch.set_num_threads(1)  # no thread pool, so that forking is safe

from pullpush.encoders import ImageEncoder, bundle
from pullpush.files import write

from tests.support.killing import killed_before

run, encoder = Path(sys.argv[1]), ImageEncoder("test_resnet", weights="none", dim=8, size=32, seed=1)
old, new = bundle.save(run / "model", encoder), None
encoder.head.bias.data += 1


places = [(bundle, "save_file"), (shutil, "rmtree"), (write, "sync")]
places += [(Path, name) for name in ("mkdir", "rename", "write_text")]
save = partial(bundle.save, run / "model", encoder, replace=True)
found, step, killed = [], 0, True
while killed:
    step += 1
    killed = killed_before(step, save, places) is None
    found.append(bundle.load(run).fingerprint)
    new = bundle.save(run / "copy", encoder)
    save()  # the next save mends what the killed one left
    assert bundle.load(run).fingerprint == new and sorted(os.listdir(run)) == ["copy", "model"], os.listdir(run)
    encoder.head.bias.data -= 1
    assert save() == old
    encoder.head.bias.data += 1
    shutil.rmtree(run / "copy")
assert found[-1] == new and set(found) == {old, new}
print(step - 1, "kills:", *("new" if each == new else "old" for each in found))
"""


def test_killed_at_any_step_there_is_the_old_model_or_the_new(tmp_path) -> None:
    """SIGKILL before each step that `save` takes on the disk, one after the other."""
    ended = alone(KILLED, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[0]) >= 7


def _megabytes(line: str) -> int:
    """`VmRSS`, the memory of this process, or `VmHWM`, the most it had since `clear_refs` was written."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) // 1024


CLAIMS = {
    "backbone": {"name": "vit_giant_patch14_224", "size": 224},
    "head": {"head": "mlp", "dim": 65536, "hidden": 65536},
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_small_file_that_claims_to_be_huge_takes_no_memory(bundle: Path, claim: str) -> None:
    """The backbone would take 4 GB, the head 17 GB; names and shapes in the file tell that it is neither."""
    edited(bundle, image={**json.loads((bundle / "config.json").read_text())["image"], **CLAIMS[claim]})
    edited(bundle, fingerprint=_fingerprint(bundle, json.loads((bundle / "config.json").read_text())))
    Path("/proc/self/clear_refs").write_text("5")
    before = _megabytes("VmRSS")
    with pytest.raises(UserError, match=r"damaged, or another than its config\.json says") as caught:
        load(bundle)
    assert "of the tensors in model.safetensors" in str(caught.value)
    assert str(caught.value).endswith("restore it from a copy, or write the model again from its run")
    assert _megabytes("VmHWM") - before < 300


@pytest.mark.parametrize("reduction", ["pca", "prefix"])
def test_small_embeddings_by_what_the_bundle_keeps(tmp_path, reduction) -> None:
    train = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32) + 0.5
    compression = Compression.fit(train, reduction)
    fingerprint = save(tmp_path / "model", small(), TextEncoder(dim=8), compression=compression)
    model = load(tmp_path / "model")
    whole, words = model.embed(pictures()), model.embed_text(["a cat", "pizza"])
    for dim in (None, 3):
        for dtype, width in (("float32", dim or 8), ("float16", dim or 8), ("int8", dim or 8), ("binary", 1)):
            found = model.embed(pictures(), batch_size=2, dim=dim, dtype=dtype)
            assert found.shape == (5, width)
            np.testing.assert_allclose(found.astype(float), compression(whole, dim, dtype).astype(float), atol=1)
            assert model.embed_text([], dim=dim, dtype=dtype).shape == (0, width)
        np.testing.assert_allclose(model.embed(pictures(), dim=dim), compression(whole, dim), atol=1e-6)
        np.testing.assert_allclose(model.embed_text(["a cat", "pizza"], dim=dim), compression(words, dim), atol=1e-6)
    with pytest.raises(UserError, match="dim must be a whole number from 1 to 8, not 9"):
        model.embed(pictures(), dim=9)
    other = Compression(compression.mean, compression.components, "pca" if reduction == "prefix" else "prefix")
    assert save(tmp_path / "other", small(), TextEncoder(dim=8), compression=other) != fingerprint


def test_a_re_ranking_is_kept_and_is_no_part_of_the_fingerprint(tmp_path, bundle) -> None:
    options, kept = Rerank(expand=3, augment=2), tmp_path / "kept"
    assert save(kept, small(), rerank=options) == save(tmp_path / "without", small())
    assert load(kept).rerank == options
    assert not load(bundle).rerank
    edited(kept, rerank={"expnd": 3})
    with pytest.raises(UserError, match=r"damaged.*expnd"):
        load(kept)


def test_a_reduced_model_embeds_as_it_does_when_asked(tmp_path) -> None:
    compression = Compression.fit(np.random.default_rng(0).normal(size=(30, 8)), "pca")
    save(tmp_path / "model", small(), compression=compression, views=Views((View(),), (View(), View(flip=True))))
    whole = load(tmp_path / "model")
    model = whole.reduced(3)
    assert (model.dim, whole.dim, model.fingerprint) == (3, 8, f"{whole.fingerprint}-3")
    assert whole.reduced(None) is whole.reduced(8) is whole
    np.testing.assert_array_equal(model.embed(pictures()), whole.embed(pictures(), dim=3))
    queries, gallery = model.embed_both(pictures())
    np.testing.assert_allclose(gallery, whole.embed(pictures(), dim=3), atol=1e-6)
    np.testing.assert_allclose(queries, whole.embed(pictures(), dim=3, role="query"), atol=1e-6)
    np.testing.assert_array_equal(model.reduced(2).embed(pictures()), whole.embed(pictures(), dim=2))
    assert model.embed([]).shape == (0, 3)
    with pytest.raises(UserError, match="from 1 to 3, not 4"):
        model.reduced(4)


def test_a_bundle_without_a_compression_gives_prefixes_and_signs(bundle) -> None:
    model = load(bundle)
    whole = model.embed(pictures())
    short = whole[:, :3] / np.linalg.norm(whole[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(pictures(), dim=3), short, atol=1e-6)
    bits = np.unpackbits(model.embed(pictures(), dtype="binary"), axis=1)
    np.testing.assert_array_equal(bits, whole >= 0)


def test_a_damaged_compression_is_named(bundle) -> None:
    tensors = load_file(bundle / "model.safetensors") | {"compression.mean": torch.zeros(5)}
    save_file(tensors, bundle / "model.safetensors")
    config = json.loads((bundle / "config.json").read_text()) | {"compression": {"reduction": "prefix"}}
    for changed, message in (
        ({"reduction": "prefix"}, "not of 8 dimensions"),
        ({"reduction": "pca"}, "components"),
        ({"other": 1}, "unexpected keyword"),
    ):
        config["compression"] = changed
        config["fingerprint"] = _fingerprint(bundle, config)
        (bundle / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=message):
            load(bundle)
