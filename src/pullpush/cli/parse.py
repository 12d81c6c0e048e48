"""Options of a verb from the signature of the function that does it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pullpush.bounds import check, read
from pullpush.errors import UserError
from pullpush.signatures import REQUIRED, of, summary
from pullpush.words import help_of, typed, unknown, value_of

__all__ = ["call"]


def call(
    function: Callable[..., Any], argv: Sequence[str], prog: str, examples: str, by_place: Sequence[str] = ()
) -> Any:
    """Calls `function` with a command line: parameters without a default by place, the others as options, in any order.

    Hyphens and underscores in options are the same; a yes-or-no option may stand alone (--json); an option that is a
    list may be repeated; one of a single letter may have one hyphen (-k 5). The options `by_place` may also stand
    behind the parameters without a default, without their names.

    Raises:
        UserError: unknown options, with the nearest right name; missing or wrong values.
        SystemExit: after --help.
    """
    signature = of(function)
    options = signature.options
    required = [name for name, option in options.items() if option.default is REQUIRED]
    if "--help" in argv or "-h" in argv:
        named = " ".join([*(name.upper() for name in required), *(f"[{name.upper()}]" for name in by_place)])
        groups = {"arguments": required, "options": [name for name in options if name not in required]}
        shown = {title: {name: options[name] for name in names} for title, names in groups.items() if names}
        print(help_of(f"{prog} {named} [--OPTION VALUE ...]", summary(signature.doc), shown, examples))
        sys.exit(0)
    typed_texts, words = typed(argv, [name for name, option in options.items() if option.annotation is bool])
    for name in typed_texts:
        if name not in options:
            raise unknown(name, options, prog)
    values = {name: value_of(name, texts, options[name].annotation) for name, texts in typed_texts.items()}
    places = [name for name in (*required, *by_place) if name not in values]
    if len(words) > len(places):
        raise UserError(f"{words[len(places)]!r} is one word too many: see {prog} --help")
    for name, word in zip(places, words, strict=False):
        values[name] = check(name.upper(), read(word, options[name].annotation), options[name].annotation)
    missing = [name for name in required if name not in values]
    if missing:
        raise UserError(f"{prog} needs {' and '.join(name.upper() for name in missing)}: see {prog} --help")
    return _run(function, values)


def _run(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    return function(**values)
