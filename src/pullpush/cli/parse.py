"""Options of a verb from the signature of the function that does it."""

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from pullpush.errors import UserError

__all__ = ["call"]


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the line breaks of the examples."""


def call(function: Callable[..., Any], argv: Sequence[str], prog: str, examples: str, by_place: str = "") -> Any:
    """Calls `function` with a command line: parameters without a default by place, the others as options.

    Hyphens and underscores in options are the same; a yes-or-no option may stand alone (--json); an option that is a
    list may be repeated; one of a single letter may have one hyphen (-k 5). The option `by_place` may also stand
    directly behind the parameters without a default, without its name.

    Raises:
        UserError: unknown options, with the nearest right name; missing or wrong values.
        SystemExit: after --help.
    """
    parser = ArgumentParser(prog=prog, exit_on_error=False, formatter_class=_Formatter, epilog=f"examples:\n{examples}")
    parser.add_function_arguments(function, as_group=False, as_positional=True)
    parameters = signature(function).parameters.values()
    required = sum(p.default is p.empty for p in parameters)
    if by_place and len(argv) > required and not any(word.startswith("-") for word in argv[: required + 1]):
        argv = [*argv[:required], f"--{by_place}", *argv[required:]]
    words = []
    known = [k for k in parser._option_string_actions if k.startswith("--")]
    flags = {f"--{p.name}" for p in parameters if p.annotation is bool}
    lists = {f"--{p.name}" for p in parameters if str(p.annotation).startswith("list[")}
    for place, word in enumerate(argv):
        if len(word) == 2 and word[0] == "-" and f"-{word}" in known:
            word = f"-{word}"
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("-", "_").replace("__", "--", 1)
            if name in flags and not equals and not [v for v in argv[place + 1 : place + 2] if v in ("true", "false")]:
                equals, value = "=", "true"
            if name not in known:
                near = get_close_matches(name, known, 1)
                raise UserError(
                    f"unknown option {name}: {f'did you mean {near[0]}?' if near else f'see {prog} --help'}"
                )
            word = name + ("+" if name in lists and not value.startswith("[") else "") + equals + value
        words.append(word)
    if "--help" in words or "-h" in words:
        parser.print_help()
        sys.exit(0)
    try:
        found = parser.parse_args(words)
    except ArgumentError as error:
        lines = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise UserError(f"{lines.replace('Parser key', 'option')}. See {prog} --help") from error
    return function(**vars(parser.instantiate_classes(found)))
