r"""Small embeddings: fewer dimensions, and fewer bytes for each.

Fewer dimensions, at length 1 again: the first $d$ (`prefix`, for which Matryoshka trains), or the first $d$ principal
components (`pca`). Fewer bytes: `float16`, `int8` or `binary`. `decode` gives the vector of length 1 that stands for
what is stored, so one cosine compares all of them.

| stored as | an embedding x | bytes | error |
| --- | --- | --- | --- |
| float32 | x | 4 d | none |
| float16 | x | 2 d | $2^{-11}$ of each number |
| int8 | $\mathrm{round}(127 x / \max_i \lvert x_i \rvert)$ | d | $\max_i \lvert x_i \rvert / 254$ of each number |
| binary | $x_i \ge o_i$, eight to a byte, with the mean o of training embeddings | d / 8 | - |

Each int8 vector is scaled by its own largest number, so that nothing is fitted, nothing is cut off, and all of its
range is used whatever the number of dimensions; the scale itself has no part in a cosine. The cosine of two binary
embeddings is $1 - 2h / d$ with the number h of bits that differ (Hamming distance).
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.bounds import Bound, check
from pullpush.errors import UserError
from pullpush.maths.similarity import normalize

__all__ = ["DTYPES", "Compression", "Dtype", "Reduction", "decode", "encode", "stored_bytes"]

Floats = NDArray[np.float32]
Dtype = Literal["float32", "float16", "int8", "binary"]
Reduction = Literal["prefix", "pca"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


def encode(embeddings: Floats, dtype: Dtype = "float32", origin: Floats | None = None) -> NDArray[Any]:
    """Embeddings as they are stored, by the formulas above.

    Args:
        embeddings: float32 `[n, dim]`.
        dtype: `float32`, `float16`, `int8` or `binary`.
        origin: `[dim]`, above which a bit is set; 0 where it is left out.

    Returns:
        `[n, dim]` of that type; of `binary` uint8 `[n, ceil(dim / 8)]`, the first dimension in the highest bit.

    Raises:
        UserError: another type, or NaN where that has no place for it.
    """
    check("dtype", dtype, Dtype)
    x = np.asarray(embeddings, np.float32)
    if dtype in ("int8", "binary") and np.isnan(x).any():
        raise UserError(f"embeddings hold NaN, which {dtype} can't hold: store them as float32, or mend the model")
    if dtype == "binary":
        return np.asarray(np.packbits(x >= (0.0 if origin is None else origin), axis=1))
    if dtype == "int8":
        largest = np.abs(x).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
        return np.asarray(np.rint(127 * (x / largest)), np.int8)
    return np.asarray(x, dtype)


def decode(stored: NDArray[Any], dim: int) -> Floats:
    """The vectors that stand for stored embeddings, float32 `[n, dim]` of length 1 (0 for a vector of zeros).

    Args:
        stored: what `encode` gave; uint8 is binary.
        dim: dimensions of the embeddings.

    Raises:
        UserError: it is of other dimensions, or of no type that `encode` gives.
    """
    names = {"uint8": "binary", **dict.fromkeys(("float32", "float16", "int8"), "")}
    if stored.dtype.name not in names:
        raise UserError(f"stored embeddings are {stored.dtype}, not one of {', '.join(names)}: give what encode gave")
    width = -(-dim // 8) if stored.dtype == np.uint8 else dim
    if stored.ndim != 2 or stored.shape[1] != width:
        raise UserError(
            f"stored embeddings have the shape {list(stored.shape)}; those of {dim} dimensions are [n, {width}] as "
            f"{names[stored.dtype.name] or stored.dtype}"
        )
    if stored.dtype == np.uint8:
        return (np.unpackbits(stored, axis=1, count=dim) * np.float32(2) - 1) / np.float32(np.sqrt(dim))
    return _unit(stored.astype(np.float32))


def stored_bytes(dim: int, dtype: Dtype) -> int:
    """Bytes of one embedding."""
    return -(-dim // 8) if dtype == "binary" else dim * {"float32": 4, "float16": 2, "int8": 1}[dtype]


@dataclass(frozen=True)
class Compression:
    r"""How the embeddings of one model are made smaller: kept in its bundle.

    The principal components are the eigenvectors v of the mean of $x x^T$, largest eigenvalue first, without a mean
    taken off: all of them keep every cosine as it is, and the first d keep of all d directions the largest share of the
    inner products, so that a cosine goes on to mean what it meant.

    Attributes:
        mean: of the training embeddings, float32 `[dim]`; None where it is not known, and counts as 0.
        components: float32 `[dim, dim]`, orthonormal rows; None where they are not known.
        reduction: what fewer dimensions are: `pca` (the components), or `prefix`.

    Raises:
        UserError: `pca` without components, or arrays that do not fit each other.
    """

    mean: Floats | None = None
    components: Floats | None = None
    reduction: Reduction = "prefix"

    def __post_init__(self) -> None:
        check("reduction", self.reduction, Reduction)
        if self.reduction == "pca" and self.components is None:
            raise UserError("reduction 'pca' needs components: fit them to training embeddings, or take 'prefix'")
        shapes = {name: x.shape for name, x in (("mean", self.mean), ("components", self.components)) if x is not None}
        dims = {side for shape in shapes.values() for side in shape}
        if len(dims) > 1 or any(len(shape) != 1 + (name == "components") for name, shape in shapes.items()):
            raise UserError(f"a compression has a mean [dim] and components [dim, dim], not {shapes}")

    @classmethod
    def fit(cls, embeddings: Any, reduction: Reduction = "pca") -> Self:
        """Of training embeddings `[n, dim]`, computed in float64.

        Raises:
            UserError: there are none, or they hold NaN or infinity.
        """
        x = np.asarray(embeddings, np.float64)
        if x.ndim != 2 or not x.size or not np.isfinite(x).all():
            raise UserError(
                f"a compression is fitted to finite embeddings [n, dim], at least one, not to {list(x.shape)} "
                f"{'with NaN or infinity' if x.size and not np.isfinite(x).all() else ''}".rstrip()
            )
        components = np.linalg.eigh(x.T @ x / len(x))[1].T[::-1]
        largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
        components = components * np.sign(largest)  # an eigenvector has no sign of its own
        return cls(x.mean(0).astype(np.float32), np.ascontiguousarray(components, np.float32), reduction)

    def reduce(self, embeddings: Floats, dim: int | None = None) -> Floats:
        """Embeddings of `dim` dimensions and length 1; those given where `dim` is None or all there are.

        Raises:
            UserError: `dim` is below 1 or more than there are.
        """
        dim = self._checked(embeddings, dim)
        return embeddings if dim == embeddings.shape[1] else _unit(self._first(embeddings, dim))

    def __call__(self, embeddings: Floats, dim: int | None = None, dtype: Dtype = "float32") -> NDArray[Any]:
        """Embeddings of `dim` dimensions, as `dtype` stores them.

        Args:
            embeddings: float32 `[n, dim]`, of length 1.
            dim: dimensions that are left; None for all.
            dtype: see `encode`.

        Raises:
            UserError: as of `reduce` and `encode`.
        """
        if dtype != "binary" or self.mean is None:
            return encode(self.reduce(embeddings, dim), dtype)
        # Bits do not depend on the length, so the mean is taken off before that is made 1.
        dim = self._checked(embeddings, dim)
        x, mean = (self._first(each, dim) for each in (embeddings, self.mean[None]))
        return encode(x, dtype, mean[0])

    def _checked(self, embeddings: Floats, dim: int | None) -> int:
        whole = embeddings.shape[1]
        return whole if dim is None else int(check("dim", dim, Annotated[int, Bound(1, whole)]))

    def _first(self, x: Floats, dim: int) -> Floats:
        if dim == x.shape[1]:
            return x
        if self.reduction == "pca" and self.components is not None:
            return x @ self.components[:dim].T
        return x[:, :dim]


def _unit(x: Floats) -> Floats:
    unit: Floats = normalize(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return unit
