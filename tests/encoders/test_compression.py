"""Small embeddings against their definitions: loops in float64, bounds of the error, and scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD

from pullpush.encoders.compression import DTYPES, Compression, decode, encode, stored_bytes
from pullpush.errors import UserError


def unit(n=40, dim=12, seed=0, offset=0.3):
    x = np.random.default_rng(seed).normal(size=(n, dim)) * np.linspace(2, 0.5, dim) + offset
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 7, 8, 12])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_stored_follows_the_definition_and_comes_back(dtype, dim):
    x = unit(dim=dim)
    stored = encode(x, dtype)
    assert stored.nbytes == len(x) * stored_bytes(dim, dtype)
    back = decode(stored, dim)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    for row, code, found in zip(x.astype(float), stored, back, strict=True):
        if dtype == "binary":
            bits = [code[i // 8] >> (7 - i % 8) & 1 for i in range(dim)]
            assert bits == [v >= 0 for v in row]
            np.testing.assert_allclose(found, [(1 if bit else -1) / math.sqrt(dim) for bit in bits], rtol=1e-6)
        elif dtype == "int8":
            largest = max(abs(v) for v in row)
            for value, number in zip(row, code, strict=True):
                assert abs(value - largest * number / 127) <= largest / 254 * (1 + 1e-5)
            # the angle: no more than an error of that size in each dimension can turn it
            assert 1 - row @ found <= dim * (largest / 254) ** 2 + 1e-6
        else:
            bound = 2.0**-11 if dtype == "float16" else 0
            assert (abs(code.astype(float) - row) <= bound * abs(row) + 2.0**-25 * bool(bound)).all()
    if dtype in ("int8", "binary"):  # stored again, it is the same
        np.testing.assert_array_equal(encode(back, dtype), stored)


def test_the_cosine_of_bits_is_one_less_twice_their_hamming_distance_by_dimensions():
    x = unit(dim=13, offset=0)
    bits = encode(x, "binary")
    cosines = decode(bits, 13) @ decode(bits, 13).T
    for i in range(9):
        for j in range(9):
            hamming = sum(int(a ^ b).bit_count() for a, b in zip(bits[i], bits[j], strict=True))
            assert cosines[i, j] == pytest.approx(1 - 2 * hamming / 13, abs=1e-6)


def test_a_vector_of_zeros_and_no_vector_at_all():
    zeros = np.zeros((1, 4), np.float32)
    assert not decode(encode(zeros, "int8"), 4).any()
    for dtype in DTYPES:
        assert decode(encode(zeros[:0], dtype), 4).shape == (0, 4)


def test_components_are_those_of_scikit_learn_and_keep_every_cosine():
    x = unit()
    ours = Compression.fit(x)
    np.testing.assert_allclose(ours.components @ ours.components.T, np.eye(12), atol=1e-6)
    whole = x @ ours.components.T
    np.testing.assert_allclose(whole @ whole.T, x @ x.T, atol=1e-6)
    theirs = TruncatedSVD(5, algorithm="arpack").fit(x.astype(float)).components_
    np.testing.assert_allclose(np.abs((ours.components[:5] * theirs).sum(1)), 1, atol=1e-6)
    short = ours.reduce(x, 5)
    expected = x @ theirs.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(short @ short.T, expected @ expected.T, atol=1e-5)
    # fewer items than dimensions: the components are still a basis
    few = Compression.fit(x[:3])
    np.testing.assert_allclose(few.components @ few.components.T, np.eye(12), atol=1e-6)
    np.testing.assert_allclose(few.reduce(x[:3], 3) @ few.reduce(x[:3], 3).T, x[:3] @ x[:3].T, atol=1e-5)


def test_a_number_of_dimensions_may_be_written_as_a_float():
    for fewer in (Compression(), Compression.fit(unit())):
        for dtype in DTYPES:
            np.testing.assert_array_equal(fewer(unit(), 4.0, dtype), fewer(unit(), 4, dtype))


def test_a_prefix_is_the_first_dimensions_at_length_one():
    x = unit()
    for row, short in zip(x.astype(float), Compression()(x, 5), strict=True):
        np.testing.assert_allclose(short, row[:5] / math.sqrt(row[:5] @ row[:5]), rtol=1e-5)
    np.testing.assert_array_equal(Compression()(x), x)
    np.testing.assert_array_equal(Compression.fit(x)(x, 12), x)


@pytest.mark.parametrize("reduction", ["prefix", "pca"])
@pytest.mark.parametrize("dim", [None, 5])
def test_bits_are_counted_from_the_mean_of_the_training_embeddings(reduction, dim):
    train, x = unit(seed=1), unit()
    ours = Compression.fit(train, reduction)
    basis = np.eye(12)[:5] if reduction == "prefix" else ours.components[:5]
    basis = np.eye(12) if dim is None else basis
    found = np.unpackbits(ours(x, dim, "binary"), axis=1, count=dim or 12)
    np.testing.assert_array_equal(found, (x - train.mean(0)) @ basis.T >= 0)
    assert (decode(ours(x, dim, "int8"), dim or 12) * ours(x, dim)).sum(1).min() > 0.999


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: encode(unit(), "int4"), "dtype must be"),
        (lambda: encode(unit() * np.nan, "int8"), "NaN, which int8 can't hold: store them as float32"),
        (lambda: Compression.fit(unit())(unit() * np.nan, 4, "binary"), "NaN, which binary can't hold"),
        (lambda: Compression()(unit(), 13), "dim must be a whole number from 1 to 12, not 13"),
        (lambda: Compression()(unit(), 0, "binary"), "dim must be a whole number from 1 to 12"),
        (lambda: Compression.fit(unit())(unit(), 13, "binary"), "dim must be a whole number from 1 to 12"),
        (lambda: Compression(reduction="umap"), "reduction must be"),
        (lambda: Compression(reduction="pca"), "needs components"),
        (lambda: Compression(np.zeros(3), np.zeros((4, 4))), r"a mean \[dim\] and components"),
        (lambda: Compression.fit(np.zeros((0, 4))), "at least one"),
        (lambda: Compression.fit(np.full((2, 4), np.nan)), "with NaN"),
        (lambda: decode(unit(), 13), r"\[40, 12\]; those of 13 dimensions are \[n, 13\]"),
        (lambda: decode(encode(unit(), "binary"), 17), r"are \[n, 3\] as binary"),
        (lambda: decode(unit().astype(int), 12), "are int64, not one of"),
    ],
)
def test_what_can_not_be_is_named(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()
