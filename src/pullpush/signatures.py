"""What a function can be given, read from its source: no import, so that help takes no second for torch.

Only what a signature needs is evaluated: constants, `typing` and `pullpush.bounds`. Other names, such as `Tensor`,
stand for themselves.
"""

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pullpush.bounds import signature_of, types_of

__all__ = ["REQUIRED", "Option", "Signature", "arguments", "of", "one", "room", "summary"]

# Modules whose names are the real ones when signatures are evaluated: cheap to import.
REAL = ("collections.abc", "math", "pathlib", "typing", "pullpush.bounds", "pullpush.data.readers")


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()
"""The default of what has none."""


class Option(NamedTuple):
    """An option: its default, its type with bounds, what the docstring says of it, and whether it goes by name only."""

    default: Any
    annotation: Any
    help: str
    by_name: bool = True


class Signature(NamedTuple):
    """A function, or a class as it is made.

    Attributes:
        name: of the function.
        options: name to `Option`, in order.
        doc: the docstring, without indentation.
    """

    name: str
    options: Mapping[str, Option]
    doc: str


def room(package: str, skip: Sequence[str] = ()) -> dict[str, Signature]:
    """The functions that the files of a package list in their `__all__`, sorted by name, as `maths.registry` does."""
    found: dict[str, Signature] = {}
    for path in _folder(package).glob("*.py"):
        if path.stem not in ("__init__", *skip):
            names, signatures = _read(path)
            found |= {name: signatures[name] for name in names}
    return dict(sorted(found.items()))


def one(place: str) -> Signature:
    """A function or class by its full name, `pullpush.data.emoji.read_emoji`."""
    module, _, name = place.rpartition(".")
    return _read(_folder(module.rpartition(".")[0]) / f"{module.rpartition('.')[2]}.py")[1][name]


def of(function: Callable[..., Any]) -> Signature:
    """A function that is at hand."""
    doc = inspect.getdoc(function) or ""
    kinds, said = types_of(function), arguments(doc)
    options = {
        name: Option(
            REQUIRED if p.default is p.empty else p.default,
            kinds.get(name, p.annotation),
            said.get(name, ""),
            p.kind is p.KEYWORD_ONLY,
        )
        for name, p in signature_of(function).parameters.items()
    }
    return Signature(getattr(function, "__name__", str(function)), options, doc)


def summary(doc: str) -> str:
    """The first paragraph, as one line."""
    return " ".join(doc.partition("\n\n")[0].split())


def arguments(doc: str) -> dict[str, str]:
    """Name to help, of the docstring's section `Args`."""
    found: dict[str, str] = {}
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
    names: list[str] = []
    for line in section.group(1).splitlines() if section else []:
        start = re.match(r"[ ]{4}(\w[\w, ]*):\s+(.*)", line)
        if start:
            names = [n.strip() for n in start.group(1).split(",")]
            found |= dict.fromkeys(names, start.group(2).strip())
        else:
            found |= {n: f"{found[n]} {line.strip()}".strip() for n in names}
    return found


def _folder(package: str) -> Path:
    """Where a package lies; found from the top, so that nothing of it is imported."""
    top, *rest = package.split(".")
    spec = importlib.util.find_spec(top)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*rest)


@lru_cache(maxsize=256)
def _read(path: Path) -> tuple[list[str], dict[str, Signature]]:
    """`__all__` and the signatures of a source file."""
    known: dict[str, Any] = {}
    found: dict[str, Signature] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _import(node, known)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            _assign(node.targets[0].id, node.value, known)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            _assign(node.target.id, node.value, known)
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = _signature(node.name, node.args, ast.get_docstring(node) or "", known)
        elif isinstance(node, ast.ClassDef):
            known[node.name] = type(node.name, (), {})
            made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
            if made:
                made[0].args.args.pop(0)
                found[node.name] = _signature(node.name, made[0].args, ast.get_docstring(node) or "", known)
    return list(known.get("__all__", ())), found


def _import(node: ast.Import | ast.ImportFrom, known: dict[str, Any]) -> None:
    for alias in node.names:
        name = alias.asname or alias.name
        if isinstance(node, ast.ImportFrom):
            real = node.module in REAL
            known[name] = vars(importlib.import_module(str(node.module)))[alias.name] if real else type(name, (), {})
        elif alias.name in REAL:
            known[name] = importlib.import_module(alias.name)


def _assign(name: str, value: ast.expr, known: dict[str, Any]) -> None:
    try:
        known[name] = _evaluated(value, known)
    except Exception:  # not a constant: tensors, functions, whatever the file computes
        known[name] = type(name, (), {})


def _evaluated(node: ast.expr, known: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "<signature>", "eval"), {**known})


def _signature(name: str, given: ast.arguments, doc: str, known: dict[str, Any]) -> Signature:
    said = arguments(doc)
    placed = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(placed) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(placed, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    options = {}
    for each, default in pairs:
        value = REQUIRED if default is None else _evaluated(default, known)
        options[each.arg] = Option(value, _annotation(each, known), said.get(each.arg, ""), each in given.kwonlyargs)
    return Signature(name, options, doc)


def _annotation(node: ast.arg, known: dict[str, Any]) -> Any:
    try:
        return Any if node.annotation is None else _evaluated(node.annotation, known)
    except Exception:  # a type of another library, subscripted
        return Any
