"""The one exception that is addressed to a person."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Something the user can mend.

    The message names the input and the cure in one or two sentences. The command line prints it without a
    traceback and exits with status 2.
    """
