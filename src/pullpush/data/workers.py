"""The same function on each row, in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from pullpush.errors import UserError
from pullpush.progress import counted

__all__ = ["CHUNK", "FEW", "Result", "by_chunks"]

Result = TypeVar("Result")
CHUNK = 64
FEW = 1000


class _Chunks(Dataset[Result | UserError], Generic[Result]):
    def __init__(self, function: Callable[[range], Result], count: int) -> None:
        self.function, self.count = function, count

    def __len__(self) -> int:
        return -(-self.count // CHUNK)

    def __getitem__(self, chunk: int) -> Result | UserError:
        # a DataLoader would wrap the traceback into the message
        try:
            return self.function(range(chunk * CHUNK, min(self.count, (chunk + 1) * CHUNK)))
        except UserError as error:
            return error


def by_chunks(
    function: Callable[[range], Result], count: int, what: str, workers: int | None = None
) -> Iterator[Result]:
    """`function` of each chunk of the rows 0 to `count` - 1, in order.

    Pillow holds Python's lock for most of the time of a small image, so threads would wait for each other.
    `what` is said of it while it goes on (`progress.work`). `workers`: processes
    (default: as many as cores; none for fewer than a thousand rows). `function` must be picklable. Its UserErrors
    are raised here.
    """
    if workers is None:
        workers = (os.cpu_count() or 1) if count >= FEW else 0
    results = DataLoader(_Chunks(function, count), batch_size=None, num_workers=workers)
    sizes = iter([min(CHUNK, count - start) for start in range(0, count, CHUNK)])
    for result in counted(results, what, count, each=lambda _: next(sizes)):
        if isinstance(result, UserError):
            raise result
        yield result
