"""The fixtures of the search tests: a server serves their index."""

from search.conftest import built, index, model, nursery, pictures

__all__ = ["built", "index", "model", "nursery", "pictures"]
