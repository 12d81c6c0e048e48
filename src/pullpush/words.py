"""Options as a person types them: words to values, and values to a page of help."""

import shutil
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pullpush.bounds import check, describe, read
from pullpush.errors import UserError
from pullpush.names import did_you_mean
from pullpush.signatures import REQUIRED, Option

__all__ = ["Texts", "help_of", "typed", "unknown", "value_of"]

TRUTHS = ("true", "false", "yes", "no")


class Texts(list[str | None]):
    """What was typed for an option, each time that it was; None where no value stands behind it."""


def typed(
    words: Sequence[str], flags: Collection[str] = (), full: Callable[[str], str] = str
) -> tuple[dict[str, Texts], list[str]]:
    """Options by name and the other words of a command line, in any order.

    `--name VALUE`, `--name=VALUE`, and `-k VALUE` for a name of one letter; hyphens within names are underscores. What
    follows `--` is no option.

    Args:
        words: of the command line.
        flags: options that may stand alone, in full.
        full: a short name to the full one.
    """
    options: dict[str, Texts] = {}
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return options, others + rest
        if not is_option(word):
            others.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = full(name.replace("-", "_"))
        alone = not equals and (not rest or is_option(rest[0]) or (name in flags and rest[0].lower() not in TRUTHS))
        options.setdefault(name, Texts()).append(None if alone else value if equals else rest.pop(0))
    return options, others


def is_option(word: str) -> bool:
    """Whether a word begins an option: -1 and - do not."""
    return word.startswith("--") or (len(word.partition("=")[0]) == 2 and word[0] == "-" and word[1].isalpha())


def value_of(name: str, texts: Texts, kind: Any) -> Any:
    """The value of an option that was typed once or, if it is a list, several times.

    Raises:
        UserError: no value of its type; no value at all.
    """
    shown = f"-{name}" if len(name) == 1 else f"--{name}"
    if texts[-1] is None:
        if kind is bool:
            return True
        raise UserError(f"{shown} needs a value: {describe(kind)}")
    values = [read(str(text), kind) for text in texts]
    if len(values) > 1 and "list" in str(kind):
        values = [[each for value in values for each in (value if isinstance(value, list) else [value])]]
    return check(shown, values[-1], kind)


def unknown(name: str, known: Collection[str], prog: str, where: str = "", hyphens: str = "--") -> UserError:
    """The error of an option that is not there, with the nearest that is."""
    hint = did_you_mean(name, known, f"see {prog} --help", f"{hyphens}{{}}", 0.5)
    return UserError(f"unknown option {hyphens}{name}{where}: {hint}")


def help_of(usage: str, about: str, options: Mapping[str, Mapping[str, Option]], examples: str) -> str:
    """A page of help.

    Args:
        usage: the line that shows how to call.
        about: what it does.
        options: those of each section, by its title.
        examples: lines, each a command.
    """
    width = min(shutil.get_terminal_size().columns, 120)
    parts = [f"usage: {usage}", "\n".join(textwrap.wrap(about, width))]
    for title, section in options.items():
        lines = [_line(name, option, width) for name, option in section.items()]
        parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join([*(part for part in parts if part), f"examples:\n{examples.rstrip()}"])


def _line(name: str, option: Option, width: int) -> str:
    hyphens = "" if option.default is REQUIRED else "-" if len(name) == 1 else "--"
    facts = [] if option.annotation is str else [describe(option.annotation)]
    if option.default is not REQUIRED and option.default is not None:
        facts.append(f"default: {str(option.default).lower() if isinstance(option.default, bool) else option.default}")
    text = f"{option.help} ({'; '.join(facts)})" if facts else option.help
    start = f"  {hyphens}{name}"
    indent = " " * 30
    wrapped = textwrap.fill(text, max(width, 60), initial_indent=indent, subsequent_indent=indent)
    return start + wrapped[len(start) :] if len(start) < 29 else f"{start}\n{wrapped}"
