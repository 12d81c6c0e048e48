"""What can go wrong with an index, told apart so that a server can say what a client may know and no more."""

from pullpush.errors import UserError

__all__ = ["BadQuery", "DiskFull", "NoIndex", "NoItem"]


class BadQuery(UserError):
    """Something that cannot be asked for. The message holds nothing but what was asked and what the index is for: no
    path, no address, no process."""


class NoItem(BadQuery):
    """An id that is not in the index."""


class NoIndex(UserError):
    """There is no index in the folder, or no longer."""


class DiskFull(UserError):
    """No space is left; the published version is as it was."""
