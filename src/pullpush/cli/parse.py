"""Options of a verb from the signature of the function that does it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pullpush.errors import UserError
from pullpush.signatures import REQUIRED, of, section, summary
from pullpush.words import Said, help_of, typed, unknown

__all__ = ["call"]


def call(function: Callable[..., Any], argv: Sequence[str], prog: str, several: str = "", more: str = "") -> Any:
    """Calls `function` with a command line: its options in any order, with their names or, where it takes them by
    place, without.

    Hyphens and underscores in options are the same; a yes-or-no option may stand alone (--json); an option that is a
    list may be repeated; one of a single letter may have one hyphen (-k 5). The option `several` is the text of all
    words behind it. A function with `**options` gets those that it does not know as `Said`. Help ends with `more`.

    Raises:
        UserError: unknown options, with the nearest right name; missing or wrong values.
        SystemExit: after --help.
    """
    signature = of(function)
    options = signature.options
    required = {name: option for name, option in options.items() if option.default is REQUIRED}
    by_place = [name for name, option in options.items() if not option.by_name]
    if "--help" in argv or "-h" in argv:
        usage = " ".join(name.upper() if name in required else f"[{name.upper()}]" for name in by_place)
        shown = {"arguments": required, "options": {k: v for k, v in options.items() if k not in required}}
        examples = section(signature.doc, "Examples") + more
        print(help_of(f"{prog} {usage} [--OPTION VALUE ...]", summary(signature.doc), shown, examples))
        sys.exit(0)
    said, words = typed(argv, [name for name, option in options.items() if option.annotation is bool])
    others = {name: said.pop(name) for name in [*said] if name not in options}
    if others and not signature.takes_others:
        raise unknown(next(iter(others.values())).shown, options, prog)
    if several in said:
        text = " ".join(map(str, [*said[several].values, *words]))
        said[several], words = said[several]._replace(values=[text]), []
    places = [name for name in by_place if name not in said]
    if len(words) > len(places):
        raise UserError(f"{words[len(places)]!r} is one word too many: see {prog} --help")
    said |= {name: Said(name.upper(), [word]) for name, word in zip(places, words, strict=False)}
    missing = [name.upper() for name in required if name not in said]
    if missing:
        raise UserError(f"{prog} needs {' and '.join(missing)}: see {prog} --help")
    return _run(function, {name: each.read(options[name].annotation) for name, each in said.items()} | others)


def _run(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    return function(**values)
