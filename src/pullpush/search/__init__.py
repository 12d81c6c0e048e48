"""Search: an index of a trained model's embeddings, and the engine that answers queries.

report = build_index("runs/demo", "emoji", "indexes/demo")
engine = open("indexes/demo")
engine.query(text="smiling cat", k=10)
enroll("indexes/people", {"alice": ["a.jpg", "b.jpg"]}, "runs/demo")
open("indexes/people").identify("photo.jpg")
"""

import importlib
from typing import TYPE_CHECKING, Any

from pullpush.extras import need

if TYPE_CHECKING:
    from pullpush.search.build import Report as Report
    from pullpush.search.build import build_index as build_index
    from pullpush.search.changes import add as add
    from pullpush.search.changes import remove as remove
    from pullpush.search.changes import tidy as tidy
    from pullpush.search.engine import Engine as Engine
    from pullpush.search.engine import open_index as open
    from pullpush.search.enrolment import enroll as enroll
    from pullpush.search.gallery import Identity as Identity
    from pullpush.search.hits import Hit as Hit
    from pullpush.search.layout import default_index as default_index

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

# The module of each, imported when it is asked for: a process that only decodes needs neither torch nor pandas.
HOMES = {
    **{"Engine": "engine", "open": "engine", "Hit": "hits", "Identity": "gallery", "enroll": "enrolment"},
    **{"Report": "build", "build_index": "build", "add": "changes", "remove": "changes", "tidy": "changes"},
    "default_index": "layout",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'pullpush.search' has no attribute {name!r}")
    need("search")
    home = importlib.import_module(f"pullpush.search.{HOMES[name]}")
    return getattr(home, "open_index" if name == "open" else name)
