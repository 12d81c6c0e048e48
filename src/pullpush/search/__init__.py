"""Search: an index of a trained model's embeddings, and the engine that answers queries.

report = build_index("runs/demo", "emoji", "indexes/demo")
engine = open("indexes/demo")
engine.query(text="smiling cat", k=10)
enroll("indexes/people", {"alice": ["a.jpg", "b.jpg"]}, "runs/demo")
open("indexes/people").identify("photo.jpg")
"""

from typing import TYPE_CHECKING, Any

from pullpush.extras import need

if TYPE_CHECKING:
    from pullpush.search.engine import Engine as Engine
    from pullpush.search.engine import open_index as open
    from pullpush.search.enrolment import enroll as enroll
    from pullpush.search.gallery import Identity as Identity
    from pullpush.search.hits import Hit as Hit
    from pullpush.search.index import Report as Report
    from pullpush.search.index import add as add
    from pullpush.search.index import build_index as build_index
    from pullpush.search.index import default_index as default_index
    from pullpush.search.index import remove as remove
    from pullpush.search.index import tidy as tidy

__all__ = [
    "Engine",
    "Hit",
    "Identity",
    "Report",
    "add",
    "build_index",
    "default_index",
    "enroll",
    "open",
    "remove",
    "tidy",
]


def __getattr__(name: str) -> Any:
    """What is asked for, when it is: a process that only decodes needs neither torch nor pandas."""
    if name not in __all__:
        raise AttributeError(f"module 'pullpush.search' has no attribute {name!r}")
    need("search")
    from pullpush.search import engine, enrolment, gallery, hits, index

    homes = {"Engine": engine, "Hit": hits, "open": engine, "enroll": enrolment, "Identity": gallery}
    home = homes.get(name, index)
    return getattr(home, "open_index" if name == "open" else name)
