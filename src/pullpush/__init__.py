"""pullpush: deep metric learning, from the loss to the search engine."""

__version__ = "0.1.0"
