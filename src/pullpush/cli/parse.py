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


def call(function: Callable[..., Any], argv: Sequence[str], prog: str, examples: str) -> Any:
    """Calls `function` with a command line: parameters without a default by place, the others as options.

    Hyphens and underscores in options are the same; a yes-or-no option may stand alone (--json).

    Raises:
        UserError: unknown options, with the nearest right name; missing or wrong values.
        SystemExit: after --help.
    """
    parser = ArgumentParser(prog=prog, exit_on_error=False, formatter_class=_Formatter, epilog=f"examples:\n{examples}")
    parser.add_function_arguments(function, as_group=False, as_positional=True)
    words = []
    known = [k for k in parser._option_string_actions if k.startswith("--")]
    flags = {f"--{p.name}" for p in signature(function).parameters.values() if p.annotation is bool}
    for place, word in enumerate(argv):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("-", "_").replace("__", "--", 1)
            name = "--json_output" if name == "--json" and "--json_output" in known else name
            if name in flags and not equals and not [v for v in argv[place + 1 : place + 2] if v in ("true", "false")]:
                equals, value = "=", "true"
            if name not in known:
                near = get_close_matches(name, known, 1)
                raise UserError(
                    f"unknown option {name}: {f'did you mean {near[0]}?' if near else f'see {prog} --help'}"
                )
            word = name + equals + value
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
