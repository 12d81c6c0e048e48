"""Two towers on a batch of 4,096 pairs: memory in chunks, within 1.5 GB above the model, and the price in time.

`whole` is the same step without the cache, on a batch that fits.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import compare, peak_bytes, result
from pullpush.criterion import Criterion
from pullpush.encoders import ImageEncoder, TextEncoder
from pullpush.training.cpu import keep_freed_memory
from pullpush.training.step import Step

PAIRS, BOUND, CHUNK = 4096, 1.5e9, 32
SMALL = 256
SIZE = 32
WORDS = ("red", "green", "small", "large", "round", "happy", "old", "wooden")


def step(pairs: int) -> tuple[Step, list[Any]]:
    """Both towers learn; gradients are allocated, so that only the batch counts."""
    keep_freed_memory()
    image, text = ImageEncoder(size=SIZE), TextEncoder(freeze=False)
    towers = Step(
        {"image": image, "text": text}, Criterion("n_pair", symmetric=True, temperature=0.07, learn="temperature")
    )
    for parameter in towers.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    images = torch.randn(pairs, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    texts = [f"a {WORDS[n % 8]} {WORDS[n // 8 % 8]} thing number {n}" for n in range(pairs)]
    labels, ids = torch.arange(pairs), torch.arange(pairs)
    return towers, [[images, texts], labels, ids]


def in_chunks(state: tuple[Step, list[Any]]) -> None:
    state[0].in_chunks(*state[1], CHUNK, Tensor.backward)


def whole(state: tuple[Step, list[Any]]) -> None:
    state[0](*state[1]).backward()


def run() -> list[dict[str, Any]]:
    small = step(SMALL)
    times = compare(lambda: in_chunks(small), lambda: whole(small), repeats=3)
    return [
        result(f"gradient_cache/step/{PAIRS}/peak", peak_bytes(step, in_chunks, PAIRS), BOUND, "bytes"),
        result(f"gradient_cache/step/{SMALL}/whole", *times, "s"),
    ]
