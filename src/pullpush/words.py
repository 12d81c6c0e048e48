"""Options as a person types them: words to values, values to a page of help, and to the call of a function."""

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pullpush.bounds import check, describe, is_list
from pullpush.errors import UserError
from pullpush.names import did_you_mean
from pullpush.signatures import REQUIRED, Option, of, section, summary

__all__ = ["Said", "call", "help_of", "typed", "unknown"]

# What may stand behind an option that needs no value; any other word does not belong to it.
TRUTHS = ("true", "false", "yes", "no")
# How many examples stand before the options; the others stand behind them.
FIRST = 4
# How an option begins: -1 and - are none.
OPTION = re.compile("--|-[a-zA-Z](=|$)")


class Said(NamedTuple):
    """What was said of an option: how messages name it, and its value each time; True where it stood alone."""

    shown: str
    values: list[Any]

    def read(self, kind: Any) -> Any:
        """The last value, or for a list all of them, checked."""
        value = self.values[-1]
        if value is True and kind is not bool and self.shown.startswith("-"):
            raise UserError(f"{self.shown} needs a value: {describe(kind)}")
        if len(self.values) > 1 and is_list(kind):
            value = [one for each in self.values for one in check(self.shown, each, kind) or ()]
        return check(self.shown, value, kind)

    def text(self, default: str) -> str:
        """The last value, which must be text; `default` where it is none."""
        return default if self.values[-1] is None else str(check(self.shown, self.values[-1], str))


def typed(words: Sequence[str], flags: Collection[str] = ()) -> tuple[dict[str, Said], list[str]]:
    """Options by name and the other words of a command line, in any order.

    `--name VALUE`, `--name=VALUE`, and `-k VALUE` for a name of one letter; hyphens within names are underscores. What
    follows `--` is no option. The `flags` may stand alone.
    """
    options: dict[str, Said] = {}
    others: list[str] = []
    rest = list(words)
    while rest and (word := rest.pop(0)) != "--":
        if not OPTION.match(word):
            others.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        alone = not rest or OPTION.match(rest[0]) or (name in flags and rest[0].lower() not in TRUTHS)
        said = options.setdefault(name, Said(f"-{name}" if len(name) == 1 else f"--{name}", []))
        said.values.append(value if equals else True if alone else rest.pop(0))
    return options, others + rest


def unknown(shown: str, known: Collection[str], prog: str, where: str = "") -> UserError:
    """The error of an option that is not there, with the nearest that is."""
    hyphens = "--" if shown.startswith("-") else ""
    hint = did_you_mean(shown.lstrip("-"), known, f"see {prog} --help", f"{hyphens}{{}}", 0.5)
    return UserError(f"unknown option {shown}{where}: {hint}")


def help_of(usage: str, about: str, examples: str, options: Mapping[str, Mapping[str, Option]], notes: str = "") -> str:
    """A page of help, what a newcomer needs first: what the verb does, examples, each line a command, then the options
    of each section by its title, the examples that are left, and notes."""
    width = min(shutil.get_terminal_size().columns, 120)
    names = [f"  {_typed(name, option)}" for section in options.values() for name, option in section.items()]
    column = min(30, 2 + max(map(len, names), default=0))
    sections = [
        "\n".join([f"{title}:", *(_line(name, option, column, width) for name, option in section.items())])
        for title, section in options.items()
        if section
    ]
    lines = examples.splitlines()
    first, others = "\n  ".join(["examples:", *lines[:FIRST]]), "\n  ".join(["more examples:", *lines[FIRST:]])
    more = [others] if lines[FIRST:] else []
    after = textwrap.fill(notes, width, break_on_hyphens=False)
    parts = [f"usage: {usage}", textwrap.fill(about, width), first, *sections, *more, after]
    return "\n\n".join(filter(None, parts))


def _typed(name: str, option: Option) -> str:
    return name if option.default is REQUIRED else f"-{name}" if len(name) == 1 else f"--{name}"


def _line(name: str, option: Option, column: int, width: int) -> str:
    """An option as it is typed, what it is for, what it may be and what it is where nothing is said."""
    kind, default = describe(option.annotation).replace("'', ", "").replace("'", ""), option.default
    if default is None:
        kind = kind.removesuffix(" or none")
    several = kind.startswith("a list, each ")
    kind = kind.removeprefix("a list, each ")
    facts = [] if kind in ("text", "text or text") else [kind]
    if several and default is not REQUIRED:
        facts.append("may be repeated")
    if default not in (REQUIRED, None, (), ""):
        facts.append(f"default: {str(default).lower() if isinstance(default, bool) else default}")
    about = option.help.rstrip(".")
    text = f"{about} ({'; '.join(facts)})" if facts else about
    start, indent = f"  {_typed(name, option)}", " " * column
    wrapped = textwrap.fill(
        text, max(width, 60), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return start + wrapped[len(start) :] if len(start) < column else f"{start}\n{wrapped}"


def call(function: Callable[..., Any], argv: Sequence[str], prog: str, several: str = "", notes: str = "") -> Any:
    """Calls `function` with a command line: its options in any order, with their names or, where it takes them by
    place, without.

    Hyphens and underscores in options are the same; a yes-or-no option may stand alone (--json); an option that is a
    list may be repeated, and the last that goes by place takes all words that are left; one of a single letter may have
    one hyphen (-k 5). The option `several` is the text of all words behind it. A function with `**options` gets those
    that it does not know as `Said`. Help ends with `notes`.

    Raises:
        UserError: unknown options, with the nearest right name; missing or wrong values.
        SystemExit: after --help.
    """
    signature = of(function)
    options = signature.options
    required = {name: option for name, option in options.items() if option.default is REQUIRED}
    by_place = [name for name, option in options.items() if not option.by_name]
    if "--help" in argv or "-h" in argv:
        usage = " ".join([prog, *(_place(name, options[name]) for name in by_place), "[--OPTION VALUE ...]"])
        shown = {"arguments": required, "options": {k: v for k, v in options.items() if k not in required}}
        print(help_of(usage, summary(signature.doc), section(signature.doc, "Examples"), shown, notes))
        sys.exit(0)
    said, words = typed(argv, [name for name, option in options.items() if option.annotation is bool])
    others = {name: said.pop(name) for name in [*said] if name not in options}
    if others and not signature.takes_others:
        raise unknown(next(iter(others.values())).shown, options, prog)
    if several in said:
        text = " ".join(map(str, [*said[several].values, *words]))
        said[several], words = said[several]._replace(values=[text]), []
    places = [name for name in by_place if name not in said]
    if places and len(words) >= len(places) and is_list(options[places[-1]].annotation):
        last = places.pop()
        said[last], words = Said(last.upper(), [words[len(places) :]]), words[: len(places)]
    if len(words) > len(places):
        raise UserError(f"{words[len(places)]!r} is one word too many: see {prog} --help")
    said |= {name: Said(name.upper(), [word]) for name, word in zip(places, words, strict=False)}
    missing = [name.upper() for name in required if name not in said]
    if missing:
        raise UserError(f"{prog} needs {' and '.join(missing)}: see {prog} --help")
    return _run(function, {name: each.read(options[name].annotation) for name, each in said.items()} | others)


def _place(name: str, option: Option) -> str:
    shown = name.upper() + " ..." * is_list(option.annotation)
    return shown if option.default is REQUIRED else f"[{shown}]"


def _run(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    return function(**values)
