"""The same function on each row, in worker processes."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from pullpush.errors import UserError
from pullpush.progress import counted

__all__ = ["CHUNK", "FEW", "Result", "by_chunks"]

Result = TypeVar("Result")
CHUNK = 64
FEW = 1000


class _Chunks(Dataset[Result | UserError], Generic[Result]):
    def __init__(self, function: Callable[[range], Result], chunks: Sequence[range]) -> None:
        self.function, self.chunks = function, chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, chunk: int) -> Result | UserError:
        # a DataLoader would wrap the traceback into the message
        try:
            return self.function(self.chunks[chunk])
        except UserError as error:
            return error


def by_chunks(function: Callable[[range], Result], count: int, what: str) -> Iterator[Result]:
    """`function` of each chunk of the rows 0 to `count` - 1, in order.

    As many processes as there are cores, none for fewer than `FEW` rows: Pillow holds Python's lock for most of the
    time of a small image, so threads would wait for each other. `what` is said of it while it goes on
    (`progress.work`). `function` must be picklable; its UserErrors are raised here.
    """
    workers = (os.cpu_count() or 1) if count >= FEW else 0
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    results = DataLoader(_Chunks(function, chunks), batch_size=None, num_workers=workers)
    for _, result in counted(zip(chunks, results, strict=True), what, count, each=lambda pair: len(pair[0])):
        if isinstance(result, UserError):
            raise result
        yield result
