"""Runs of the command line that are about something else than what is done with a model once it is trained."""

__all__ = ["BARE"]

BARE = [
    *("--tensorboard", "false", "--report", "false", "--views", "none", "--rerank", "none", "--table", "false"),
]
