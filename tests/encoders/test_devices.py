"""Where a model computes: on the GPU, where there is one, and wherever the user says."""

from pathlib import Path

import numpy as np
import pytest
import torch

import pullpush
from pullpush.encoders import ImageEncoder, pretrained, save
from pullpush.encoders.model import Model
from pullpush.encoders.runtimes import runtime
from pullpush.encoders.views import View, Views
from pullpush.errors import UserError
from pullpush.transfer import device_of
from tests.support.fake_gpu import GPU, fake_gpu

IMAGES = [np.full((40, 30, 3), 60 * each, np.uint8) for each in range(3)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "model"
    encoder = ImageEncoder("test_efficientnet.r160_in1k", dim=8, size=32, weights="none")
    save(folder, encoder, views=Views((View(),), (View(), View(flip=True))))
    return folder


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[object]()
    monkeypatch.setattr(torch, "empty", lambda *size, device: asked.append(device))
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device_of("auto") == torch.device(name)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert asked == [torch.device("cuda"), torch.device("cpu"), torch.device("cuda", 1)]


def test_devices_that_are_not_there(bundle: Path) -> None:
    for name in ["gpu7", "", "cuda:99"]:
        with pytest.raises(UserError, match=f"no device '{name}'.*give auto, cpu"):
            pullpush.load(bundle, name)


def test_a_loaded_model_is_where_it_was_asked_for(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pullpush.load(bundle, "meta").image.device == GPU
    monkeypatch.setattr(pretrained, "device_of", {"auto": GPU}.__getitem__)
    assert pullpush.load(bundle).image.device == GPU


def test_a_model_embeds_where_it_is(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what it is given stays behind on the CPU, where the model is not."""
    model = pullpush.load(bundle, "cpu")
    with fake_gpu(monkeypatch) as found:
        model.image.to(GPU)
        found()
        assert model.embed(IMAGES).shape == (3, 8)
        assert [each.shape for each in model.embed_both(IMAGES)] == [(3, 8), (3, 8)]
        assert {place.split(" in ")[0] for place in found()} == {"copy from CPU", "copy from GPU"}
        assert model.preprocess(IMAGES).shape == (3, 3, 32, 32)
        assert model.explain(*IMAGES[:2]).map_a.ndim == 2


def test_another_runtime_is_written_on_the_cpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(model: Model, *others: object) -> None:
        assert model.image.device == torch.device("cpu")
        raise UserError("seen")

    monkeypatch.setattr(runtime, "write_graphs", written)
    model = pullpush.load(bundle, "cpu")
    with fake_gpu(monkeypatch):
        model.image.to(GPU)
        with pytest.raises(UserError, match="seen"):
            runtime.with_runtime(model, "onnx")
