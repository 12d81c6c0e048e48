"""The command line: `pullpush VERB ...`."""

from pullpush.cli.main import main

__all__ = ["main"]
