"""The model hub, asked once and briefly whether it is there, so that nobody waits through its retries."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import huggingface_hub
from huggingface_hub import constants

__all__ = ["cache_only", "hub_or_cache", "hub_reachable"]


def hub_reachable(timeout: float = 5.0) -> bool:
    """Whether the Hugging Face hub answers at all within `timeout` seconds."""
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception:  # the HTTP library behind the session differs between versions, and so do its exceptions
        return False
    return True


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Within it, downloads work as usual; when the hub does not answer, only files already cached are tried.

    The hub's own client retries for 20 s and more a file before it looks into its cache.
    """
    with nullcontext() if not constants.HF_HUB_OFFLINE and hub_reachable() else cache_only():
        yield


@contextmanager
def cache_only() -> Iterator[None]:
    """Within it, nothing is downloaded."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
