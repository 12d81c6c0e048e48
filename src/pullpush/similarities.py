"""Similarities: functions of two sets of vectors, for the option `similarity` of a `Criterion`; larger means closer."""

from pullpush.maths.similarity import cosine, dot, negative_euclidean, negative_squared_euclidean, snr

__all__ = ["cosine", "dot", "negative_euclidean", "negative_squared_euclidean", "snr"]
