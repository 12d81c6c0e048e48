"""When is nothing close? A score means different things for different models, so it is read against the collection.

    closeness = (score - noise) / (typical - noise)

Both are measured when the index is built. `noise` is the median best score of queries that mean nothing: strings of
random letters, images of random patches. `typical` is the median score of a right answer: of an item's nearest other
item (images), of an item with its own text (texts). So closeness is about 0 for what any nonsense would find,
and about 1 for a good answer, whatever the model.
"""

from collections.abc import Sequence

import numpy as np

from pullpush.encoders.model import Model
from pullpush.search.stores import Vectors

__all__ = ["NOISE", "WEAK", "calibrate", "closeness", "nonsense_images", "nonsense_texts"]

PROBES, NOISE = 256, 48
WEAK = 0.2
"""Hits below this closeness are marked as weak."""

Scale = dict[str, float]


def calibrate(ids: np.ndarray, texts: Sequence[str], view: Vectors, model: Model) -> dict[str, Scale | None]:
    """`{"image": {"noise", "typical"}, "text": the same or None}`; `texts` is one for each of `ids`, "" for none.

    Where no item has a text, a text's `typical` is five standard deviations above its noise.
    """
    rows = np.sort(np.random.default_rng(1).permutation(len(ids))[:PROBES])
    scores, nearest = view.search(view.get(ids[rows]), 2)
    others = scores[:, 1][nearest[:, 1] >= 0]
    images = _best(view, model.embed(nonsense_images(), role="query"))
    result: dict[str, Scale | None] = {"image": _scale(images, others), "text": None}
    if model.text is not None:
        described = [row for row in rows if texts[row]]
        pairs = np.zeros(0)
        if described:
            pairs = (model.embed_text([texts[row] for row in described]) * view.get(ids[described])).sum(axis=1)
        result["text"] = _scale(_best(view, model.embed_text(nonsense_texts())), pairs)
    return result


def closeness(scores: np.ndarray, scale: Scale) -> np.ndarray:
    """Closeness of `scores`; a typical score below the noise (a model that knows nothing) counts as just above it."""
    return (scores - scale["noise"]) / max(scale["typical"] - scale["noise"], 0.02)


def nonsense_texts() -> list[str]:
    """One to three words of random letters each."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = [["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(3)] for _ in range(NOISE)]
    return [" ".join(three[: rng.integers(1, 4)]) for three in words]


def nonsense_images() -> list[np.ndarray]:
    """Random colours in 4 x 4 to 64 x 64 patches (fewer look like flags and squares): uint8 `[64, 64, 3]`."""
    rng = np.random.default_rng(0)
    patches = [rng.integers(0, 256, (2 ** (2 + i % 5),) * 2 + (3,), dtype=np.uint8) for i in range(NOISE)]
    return [np.kron(each, np.ones((64 // len(each), 64 // len(each), 1), np.uint8)) for each in patches]


def _best(view: Vectors, queries: np.ndarray) -> np.ndarray:
    scores = view.search(queries, 1)[0][:, 0]
    finite: np.ndarray = scores[np.isfinite(scores)]
    return finite


def _scale(noise: np.ndarray, right: np.ndarray) -> Scale:
    middle = float(np.median(noise))
    return {"noise": middle, "typical": float(np.median(right)) if len(right) else middle + 5 * float(noise.std())}
