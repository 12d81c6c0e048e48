"""The server: an index behind an HTTP API, with its page.

serve("indexes/demo")
"""

from typing import TYPE_CHECKING, Any

from pullpush.extras import need

if TYPE_CHECKING:
    from pullpush.server.server import serve as serve

__all__ = ["serve"]


def __getattr__(name: str) -> Any:
    """`serve` when it is used: a process that only decodes needs neither torch nor pandas."""
    if name != "serve":
        raise AttributeError(f"module 'pullpush.server' has no attribute {name!r}")
    need("search")
    from pullpush.server.server import serve

    return serve
