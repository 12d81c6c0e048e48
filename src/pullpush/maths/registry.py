"""Functions by name: whatever the files of a package list in their `__all__`."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["collect"]


def collect(package: str, path: Iterable[str], skip: set[str]) -> dict[str, Callable[..., Any]]:
    """Name to function for all files of `package` but those in `skip`, sorted by name.

    Raises:
        ValueError: two files offer the same name.
    """
    functions: dict[str, Callable[..., Any]] = {}
    for module in pkgutil.iter_modules(path):
        if module.name in skip:
            continue
        room = importlib.import_module(f"{package}.{module.name}")
        for name in room.__all__:
            if name in functions:
                raise ValueError(f"{name} is in both {functions[name].__module__} and {room.__name__}")
            functions[name] = vars(room)[name]
    return dict(sorted(functions.items()))
