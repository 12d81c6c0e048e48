"""Files of text: plain, JSON, JSON lines, YAML."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias

from pullpush.errors import UserError

__all__ = ["Fields", "check_fields", "damaged", "read_json", "read_jsonl", "read_text", "read_yaml", "regular"]

#: What a mapping must hold: a type by key, or again a mapping of types.
Fields: TypeAlias = Mapping[str, "type | UnionType | Fields"]

LARGEST = 64 << 20  # bytes of a JSON file
LARGEST_YAML = 1 << 20
MOST_NODES = 200_000  # of a YAML file with its aliases written out: a few lines of aliases may stand for billions
DEEPEST = 64

CURE = "restore it from a copy"


def regular(path: str | os.PathLike[str], cure: str = CURE) -> Path:
    """`path`, if it is a file that can be read to its end: no folder, no pipe, no device.

    Raises:
        UserError: it isn't, or is not there.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {str(path)!r}: {_reason(error)}; {cure}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise UserError(f"can't read {str(path)!r}: it is {kind}; {cure}")
    return Path(path)


def damaged(path: str | os.PathLike[str], error: BaseException | str, cure: str = CURE) -> UserError:
    """The error that says what is wrong with a file and what to do about it."""
    return UserError(f"{str(path)!r} is damaged or of another kind: {_reason(error)}; {cure}")


def read_text(path: str | os.PathLike[str], cure: str = CURE, largest: int = LARGEST) -> str:
    """The text of a UTF-8 file, with or without its mark, at most `largest` bytes long.

    Raises:
        UserError: no such file, unreadable, too long, or not UTF-8.
    """
    size = regular(path, cure).stat().st_size
    if size > largest:
        raise damaged(path, f"it has {size:,} bytes, at most {largest:,} are expected", cure)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"can't read {str(path)!r}: {_reason(error)}; {cure}") from error
    except UnicodeDecodeError as error:
        raise damaged(path, f"it is not UTF-8 (byte {error.start:,})", cure) from error


def read_json(
    path: str | os.PathLike[str], fields: Fields | None = None, cure: str = CURE, largest: int = LARGEST
) -> Any:
    """The value of a JSON file of at most `largest` bytes; with `fields`, a mapping that has them (`check_fields`).

    Raises:
        UserError: no such file, no JSON, or not what `fields` says.
    """
    text = read_text(path, cure, largest)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not JSON ({_reason(error)})", cure) from error
    if fields is not None:
        check_fields(values, fields, path, cure)
    return values


def read_jsonl(
    path: str | os.PathLike[str], fields: Fields | None = None, cure: str = CURE
) -> tuple[list[dict[str, Any]], list[int]]:
    """The mappings in a file with one JSON mapping a line, and the numbers (from 1) of the lines that are none.

    A line that is cut off, is no UTF-8, or lacks `fields` is left out and its number returned, so that one bad line
    doesn't cost the others. Empty lines count for nothing.

    Raises:
        UserError: no such file, or unreadable.
    """
    regular(path, cure)
    records: list[dict[str, Any]] = []
    left_out: list[int] = []
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line.decode("utf-8"))
                    check_fields(record, fields or {}, path)
                    records.append(record)
                except (ValueError, RecursionError, UserError):
                    left_out.append(number)
    except OSError as error:
        raise UserError(f"can't read {str(path)!r}: {_reason(error)}; {cure}") from error
    return records, left_out


def read_yaml(path: str | os.PathLike[str], fields: Fields | None = None, cure: str = CURE) -> dict[str, Any]:
    """The mapping of a YAML file (`fields` as of `read_json`). Only plain values are built, no objects.

    Raises:
        UserError: no such file, no YAML, no mapping, or not what `fields` says; nested, or repeated by aliases, beyond
            sense.
    """
    import yaml  # when it is needed: 30 ms

    text = read_text(path, cure, LARGEST_YAML)
    try:
        values = yaml.safe_load(text)
        _count(values)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise damaged(path, f"it is not YAML ({_reason(error)})", cure) from error
    if not isinstance(values, dict):
        raise damaged(path, "it is no mapping of names to values", cure)
    strange = next((key for key in values if not isinstance(key, str)), None)
    if strange is not None:
        raise damaged(path, f"{strange!r} is no name", cure)
    check_fields(values, fields or {}, path, cure)
    return values


def check_fields(values: Any, fields: Fields, path: str | os.PathLike[str], cure: str = CURE) -> None:
    """Raises `UserError` unless `values` is a mapping with all `fields`, each of its type (an int is a float, too)."""
    _check(values, fields, path, cure, "")


def _check(values: Any, fields: Fields, path: str | os.PathLike[str], cure: str, within: str) -> None:
    if not isinstance(values, Mapping):
        raise damaged(path, f"{within.rstrip('.') or 'it'} is {_kind(values)}, not a mapping of names to values", cure)
    for name, kind in fields.items():
        if name not in values:
            raise damaged(path, f"it has no {within + name!r}", cure)
        value = values[name]
        if isinstance(kind, Mapping):
            _check(value, kind, path, cure, f"{within}{name}.")
        elif not _is(value, kind):
            wanted = kind.__name__ if isinstance(kind, type) else str(kind)
            raise damaged(path, f"{within + name!r} is {_kind(value)}, not {wanted}", cure)


def _is(value: Any, kind: "type | UnionType") -> bool:
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kind) or (isinstance(value, int) and float in kinds)


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"


def _count(values: Any) -> None:
    """Walks through all values as if each alias were written out."""
    left = MOST_NODES
    ahead = [(values, 0)]
    while ahead:
        value, depth = ahead.pop()
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise ValueError("it is nested too deep" if left >= 0 else "its aliases stand for too much")
        if isinstance(value, dict):
            ahead.extend((each, depth + 1) for pair in value.items() for each in pair)
        elif isinstance(value, list | tuple | set):
            ahead.extend((each, depth + 1) for each in value)


def _reason(error: BaseException | str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    lines = str(error).split("\n")
    shown = " ".join(line.strip() for line in lines[:2] if line.strip())
    return shown[:300] or type(error).__name__
