"""The model on disk: a folder that rebuilds the encoders without downloading anything.

model.safetensors   the encoders; of the text encoder, the head; the mean and the components of the `compression`
config.json         version, fingerprint, the encoders' options with the preprocessing, `extra`; where there are some,
                    the `views` and the `rerank`, and where one was fitted the `decision`
text/               the transformer, as sentence-transformers saves it (only with a text encoder)
image/, text/       with adapters that are kept apart: these, as peft saves them, instead of the backbone

An encoder of another kind stands in config.json under `encoders`, and its files, where it has some, in KIND/.
"""

import hashlib
import importlib
import json
import os
import pkgutil
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pullpush.encoders.compression import Compression
from pullpush.encoders.decision import Decision
from pullpush.encoders.encoder import CONFIG, CURE, WEIGHTS, Encoder, Stored
from pullpush.encoders.model import Model
from pullpush.encoders.rerank import Rerank, rerank_of
from pullpush.encoders.views import Views
from pullpush.errors import UserError
from pullpush.files import check_fields, damaged, read_json, unwritable
from pullpush.files.tensors import read_safetensors
from pullpush.files.write import beside, replacing_folder

__all__ = ["holds_model", "kinds", "load", "save"]

FORMAT, VERSION = "pullpush model", 1
FIRST = ("image", "text")  # kinds with a place of their own in config.json
OTHERS = {"model_type", "architectures", "architecture"}  # in the config.json of other libraries


def save(
    folder: str | os.PathLike[str],
    *encoders: Encoder | None,
    extra: dict[str, Any] | None = None,
    decision: Decision | None = None,
    compression: Compression | None = None,
    views: Views | None = None,
    rerank: Rerank | None = None,
    replace: bool = False,
    then: str = "then write the model again",
) -> str:
    """Writes the bundle and returns its fingerprint.

    Everything is written beside (`.NAME.partial`) and then renamed: `folder` is there whole or not at all.

    Args:
        folder: to write.
        encoders: one of a kind; None counts for nothing.
        extra: any JSON value to keep with it; it does not change the fingerprint.
        decision: how cosines of the images are read; it does not change the fingerprint either.
        compression: how embeddings are made smaller.
        views: in which images are seen; None: as they are.
        rerank: how its hits are re-ranked where somebody asks for `auto`; it does not change the fingerprint.
        replace: whether to write in the place of another.
        then: what to do once it can be written, for the message.

    Raises:
        UserError: `folder` exists (unless `replace`), or can't be written; no encoder, or two of a kind.
    """
    folder, given = Path(folder), [each for each in encoders if each is not None]
    kinds_given = [each.kind for each in given]
    if not given or len(set(kinds_given)) < len(given):
        raise UserError(f"a model has one encoder or more, one of a kind, not {kinds_given}")
    if folder.exists() and not replace:
        raise UserError(f"'{folder}' exists already and is kept: choose another folder or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder) as partial:
            return _write(partial, given, extra, decision, compression, views, rerank)
    except (OSError, SafetensorError) as error:
        raise unwritable(folder, error, then) from error


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """The model of a bundle folder, or of a run folder (its `model/`).

    Args:
        path: of the folder.
        device: where the encoders are put.

    Raises:
        UserError: there is none, it was written by a later version, or a file is damaged.
    """
    folder = _find(Path(path))
    config = _read_config(folder)
    fingerprint = _fingerprint(folder, config)
    if fingerprint != config["fingerprint"]:
        raise UserError(f"the model in '{folder}' is damaged: its files do not match its fingerprint; {CURE}")
    tensors = read_safetensors(folder / WEIGHTS, CURE)
    encoders = [_rebuilt(kind, folder, config, tensors).to(device) for kind in _options(config)]
    compression = _compression(folder, config, tensors, encoders[0].dim)
    decision, views, rerank = _read_with(folder, config)
    return Model(encoders, fingerprint, config["extra"], decision, compression, views, rerank)


def _compression(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], dim: int) -> Compression | None:
    if config.get("compression") is None:
        return None
    held = {name: tensors.get(f"compression.{name}") for name in ("mean", "components")}
    try:
        arrays: dict[str, Any] = {name: x.numpy() for name, x in held.items() if x is not None}
        read = Compression(**arrays, **config["compression"])
    except (TypeError, UserError) as error:
        raise damaged(folder / CONFIG, error, CURE) from error
    if any(x is not None and x.shape[-1] != dim for x in held.values()):
        raise damaged(folder / WEIGHTS, f"its compression is not of {dim} dimensions", CURE)
    return read


def _read_with(folder: Path, config: dict[str, Any]) -> tuple[Decision | None, Views | None, Rerank]:
    """What bundles have had since: how cosines are read, views, and re-ranking."""
    try:
        decision = None if config.get("decision") is None else Decision.of(config["decision"])
        views = None if config.get("views") is None else Views.of(config["views"])
        return decision, views, rerank_of(config.get("rerank"))
    except UserError as error:
        raise damaged(folder / CONFIG, error, CURE) from error


def _rebuilt(kind: str, folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Encoder:
    own = {key.removeprefix(f"{kind}."): value for key, value in tensors.items() if key.startswith(f"{kind}.")}
    try:
        return kinds()[kind].rebuild(Stored(folder, _options(config)[kind], own, config["timm"]))
    except UserError:
        raise
    except RuntimeError as error:  # what torch says of tensors of other names or shapes
        raise damaged(folder / WEIGHTS, error, CURE) from error
    except Exception as error:  # options are handed on to libraries, which fail in many ways
        raise damaged(folder / CONFIG, f"its encoders can't be built ({error})", CURE) from error


def kinds() -> dict[str, type[Encoder]]:
    """The kinds of encoders: those of this package's files, and of whatever else a program has imported."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return {each.kind: each for each in Encoder.__subclasses__()}


def _options(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each encoder by its kind."""
    first = {kind: config[kind] for kind in FIRST if config[kind] is not None}
    return {**first, **config["encoders"]}


def _write(
    folder: Path,
    encoders: list[Encoder],
    extra: dict[str, Any] | None,
    decision: Decision | None,
    compression: Compression | None,
    views: Views | None,
    rerank: Rerank | None,
) -> str:
    tensors = {f"{each.kind}.{key}": value for each in encoders for key, value in each.saved_state().items()}
    if compression is not None:
        held = {"mean": compression.mean, "components": compression.components}
        tensors |= {f"compression.{name}": torch.from_numpy(x) for name, x in held.items() if x is not None}
    for each in encoders:
        each.save_backbone(folder / each.kind)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / WEIGHTS)
    options = {each.kind: each.config() for each in encoders}
    config: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        **{kind: options.get(kind) for kind in FIRST},
        "encoders": {kind: values for kind, values in options.items() if kind not in FIRST},
        "timm": timm.__version__,
        "loaded": "; ".join(str(each.loaded) for each in encoders if each.loaded is not None),
        "extra": extra or {},
        **({} if decision is None else {"decision": decision.values()}),
        **({} if compression is None else {"compression": {"reduction": compression.reduction}}),
        **({} if views is None or views.plain else {"views": views.values()}),
        **({"rerank": rerank.values()} if rerank else {}),
    }
    config["fingerprint"] = fingerprint = _fingerprint(folder, config)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return fingerprint


def _fingerprint(folder: Path, config: dict[str, Any]) -> str:
    """sha256 over the options of encoders, compression and views, and the name and content of every file that they
    read."""
    later = ("encoders", "compression", "views")
    options = [config[kind] for kind in FIRST] + [config[name] for name in later if config.get(name)]
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    files = [file for kind in sorted(_options(config)) for file in sorted((folder / kind).rglob("*")) if file.is_file()]
    for file in [folder / WEIGHTS, *files]:
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def holds_model(path: Path) -> bool:
    """Whether a folder is that of a model, or of a run with one; that of another library's model is not."""
    return any(_is_model(each) for each in _places(path))


def _is_model(folder: Path) -> bool:
    """Damaged ones count: reading them says what is wrong."""
    if not (folder / CONFIG).is_file():
        return False
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError:
        return True
    return not (isinstance(config, dict) and OTHERS & config.keys())


def _places(path: Path) -> list[Path]:
    return [each for folder in (path, path / "model") for each in (folder, beside(folder, "previous"))]


def _find(path: Path) -> Path:
    for each in _places(path):
        if (each / CONFIG).is_file():
            return each
    raise UserError(f"no model in '{path}': neither a model folder nor a run folder with model/ ({CONFIG} is missing)")


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    config: dict[str, Any] = read_json(file, {"format": str, "version": int}, CURE)
    written, version = config["format"], config["version"]
    if (written, version) != (FORMAT, VERSION):
        raise UserError(
            f"'{file}' has the format {written!r}, version {version}; this pullpush reads {FORMAT!r}, "
            f"version {VERSION}: use the pullpush that wrote it"
        )
    first = dict.fromkeys(FIRST, dict | None)
    check_fields(config, {**first, "timm": str, "extra": {}, "fingerprint": str}, file, CURE)
    known, others = kinds(), config.setdefault("encoders", {})
    check_fields(others, dict.fromkeys(others, dict), file, CURE)
    strange = next((kind for kind in others if kind not in known), None)
    if strange is not None:
        raise damaged(file, f"encoders of the kind {strange!r} are not known, only {', '.join(known)}", CURE)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"the model in '{folder}' is damaged: {WEIGHTS} is missing; {CURE}")
    return config
