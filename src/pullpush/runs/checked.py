"""Groups of options: dataclasses whose values are checked, by whichever door they come."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pullpush.bounds import check, types_of
from pullpush.words import unknown

__all__ = ["PROG", "SHORT", "Checked"]

PROG = "pullpush train"
# What people say, and the option it stands for.
SHORT = {
    "data": "data.source",
    "root": "data.root",
    "on_bad_item": "data.on_bad_item",
    "encoder": "encoder.name",
    "text": "text.name",
    "tune": "encoder.tune",
    "track": "trackers",
    "loss": "loss.name",
    "miner": "miner.name",
    "memory": "memory.size",
    "views": "views.choose",
}


class Checked:
    """Values that are checked by their types as they are made; a group of them may come as a mapping, or as the one
    value that `SHORT` says."""

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, kind in types_of(cls).items():
            value = getattr(self, name)
            if is_dataclass(kind) and isinstance(value, (Mapping, str, float, int)):
                value = _group(name, value, kind)
            setattr(self, name, check(f"{name} of {cls.__name__}", value, kind))


def _group(name: str, value: Any, kind: Any) -> Any:
    given = value if isinstance(value, Mapping) else {SHORT.get(name, name).rpartition(".")[2]: value}
    known = [f"{name}.{each.name}" for each in fields(kind)]
    for option in given:
        if f"{name}.{option}" not in known:
            raise unknown(f"{name}.{option}", known, PROG)
    return kind(**given)
