"""The fixtures of the search tests: a server serves their index."""

from tests.support.browser import browser
from tests.support.indexes import built, index, model, nursery, pictures

__all__ = ["browser", "built", "index", "model", "nursery", "pictures"]
