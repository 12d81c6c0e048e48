"""What is loaded with transformers: quietly, without code that comes with it, and whole."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.names import few

__all__ = ["config_of", "lacking", "loading", "refuse_random", "transformers", "where"]


def transformers(module: str = "") -> Any:
    """The package, or a module of it: untyped in part, and slow to import."""
    return importlib.import_module(f"transformers{module}")


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Within it, transformers neither draws nor warns, and what it raises names the model and the cure."""
    logging = transformers(".utils.logging")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with no_progress_bars():
            yield
    except UserError:
        raise
    except Exception as error:  # configurations and files fail in many ways
        if isinstance(error, OSError) and not Path(name).is_dir():
            raise UserError(
                f"the model {name!r} is neither a folder nor cached, and can't be had from the model hub: check the "
                "name, or give the folder of a model that transformers has written"
            ) from error
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"transformers can't load {name!r}: {reason}; give a model that it knows and wrote") from error
    finally:
        logging.set_verbosity(before)


def where(name: str) -> dict[str, Any]:
    """How to load it: without code that comes with it, and without the hub where that can't be reached."""
    if Path(name).is_dir():
        return {"trust_remote_code": False, "local_files_only": True}
    with hub_or_cache():
        return {"trust_remote_code": False, "local_files_only": constants.HF_HUB_OFFLINE}


def config_of(name: str, how: Mapping[str, Any]) -> Any:
    """The configuration of a model."""
    config = transformers().AutoConfig.from_pretrained(name, **how)
    if config.model_type.startswith("siglip2"):
        raise UserError(
            f"{name!r} takes images of any shape as lists of patches (NaFlex); give a SigLIP 2 of one resolution"
        )
    return config


def lacking(info: Mapping[str, Any]) -> list[str]:
    """The tensors that a checkpoint lacks or has in other shapes, as transformers says after loading."""
    return sorted({*info["missing_keys"], *(each[0] for each in info["mismatched_keys"])})


def refuse_random(name: str, tensors: Sequence[str]) -> None:
    """Raises `UserError` where there are tensors that weights lack."""
    if tensors:
        raise UserError(
            f"the weights of {name!r} lack {len(tensors)} of its tensors ({few(tensors)}), which would stay random: "
            "give a checkpoint that is whole, or of images 'none' as weights for a random start"
        )
