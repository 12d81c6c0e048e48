"""Search: an index of a trained model's embeddings, the engine that answers queries, and the server with its page.

report = build_index("runs/demo", "emoji", "indexes/demo")
engine = open("indexes/demo")
engine.query(text="smiling cat", k=10)
serve("indexes/demo")
"""

from __future__ import annotations

from pullpush.search.engine import Engine, Hit
from pullpush.search.engine import open_index as open
from pullpush.search.index import Report, add, build_index, remove
from pullpush.search.serving import default_index, serve

__all__ = ["Engine", "Hit", "Report", "add", "build_index", "default_index", "open", "remove", "serve"]
