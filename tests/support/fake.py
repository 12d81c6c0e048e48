"""A model of a few lines: the mean colours of a 4 x 4 grid, turned by a fixed random matrix; words for colours."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pullpush.encoders.decision import Decision
from pullpush.encoders.explain import Match
from pullpush.encoders.rerank import Rerank, rerank_of
from pullpush.errors import UserError
from pullpush.images import Fit, open_rgb, resize_and_center, to_rgb
from pullpush.search.calibration import NOISE

DIM, SIZE = 16, 16
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 60),
    "blue": (40, 60, 220),
    "yellow": (235, 220, 40),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}


class FakeModel:
    """What the search room uses of `pullpush.encoders.Model`. `delay`: seconds an image; `decision`, `rerank`:
    or their values."""

    def __init__(
        self, name: str = "a", text: bool = True, delay: float = 0.0, decision: Any = None, rerank: Any = None
    ) -> None:
        self.decision = Decision.of(decision) if isinstance(decision, dict) else decision
        self.rerank: Rerank = rerank_of(rerank)
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.dim, self.side, self.delay, self.calls = DIM, SIZE, delay, 0
        self.fit: Fit = "crop"
        self.source, self.weights = "", ()
        self.text = object() if text else None
        seed = int.from_bytes(self.fingerprint.encode()[:4], "big")
        self._turn = np.random.default_rng(seed).standard_normal((48, DIM))

    def reduced(self, dim: int | None) -> FakeModel:
        assert dim in (None, DIM)
        return self

    def embed(self, images: Any, batch_size: int = 64, progress: bool = False, *, role: str = "gallery") -> np.ndarray:
        images = [images] if isinstance(images, str | Path | Image.Image) else list(images)
        # Images of the source: the calibration's nonsense comes NOISE at a time, which no test's source does.
        self.calls += len(images) if len(images) != NOISE else 0
        time.sleep(self.delay * len(images))
        return np.concatenate([np.zeros((0, DIM), np.float32), *(self._one(image)[None] for image in images)])

    def embed_text(self, texts: str | Iterable[str], batch_size: int = 64, progress: bool = False) -> np.ndarray:
        if self.text is None:  # as the real one
            raise UserError("This model has no text encoder.")
        texts = [texts] if isinstance(texts, str) else list(texts)
        squares = [
            Image.new("RGB", (8, 8), COLOURS[next(w for w in t.split() if w in COLOURS)])
            if set(t.split()) & set(COLOURS)
            else None
            for t in texts
        ]
        noise = np.random.default_rng(5).standard_normal(DIM)
        return np.stack([_unit(noise) if square is None else self._one(square) for square in squares])

    def explain(self, a: Any, b: Any, pixels: bool = False) -> Match:
        """Exact: an embedding is a sum over the 16 cells."""
        sums = [self._grid(each).reshape(16, 3)[:, :, None] * self._turn.reshape(16, 3, DIM) for each in (a, b)]
        cells = [each.sum(1) for each in sums]
        first, second = (each.sum(0) for each in cells)
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        map_a, map_b = ((part @ to / lengths).reshape(4, 4) for part, to in zip(cells, (second, first), strict=True))
        return Match(float(first @ second / lengths), map_a, map_b, True, "the parts of each place")

    def _one(self, image: Any) -> np.ndarray:
        return _unit(self._grid(image).reshape(-1) @ self._turn)

    def _grid(self, image: Any) -> np.ndarray:
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image = to_rgb(image) if isinstance(image, Image.Image) else open_rgb(image)
        small = resize_and_center(Image.fromarray(resize_and_center(image, SIZE)), 4)
        return np.asarray(small.astype(np.float64) / 255 - 0.5)


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(np.linalg.norm(vector), 1e-9)).astype(np.float32)


def picture(colour: str, seed: int, side: int = 24) -> Image.Image:
    """A square of a colour with seeded noise."""
    noise = np.random.default_rng(seed).normal(0, 18, (side, side, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def write_folder(root: Path, each: int = 5) -> Path:
    """`root/COLOUR/N.png`."""
    for place, colour in enumerate(COLOURS):
        (root / colour).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture(colour, 100 * place + number).save(root / colour / f"{number}.png")
    return root
