"""The processes that decode for the server (`decoder.py`): started, limited, ended and replaced here."""

import asyncio
import json
import logging
import os
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pullpush.images import Fit
from pullpush.server.decoder import LONGEST, Message, pack
from pullpush.server.uploads import MAX_BYTES, MAX_PIXELS, Refused

__all__ = ["Busy", "Decoders", "Kept", "Limits"]

logger = logging.getLogger("pullpush.serve")

SMALL = 12_000_000
"""Pixels times scans up to which an image goes the quick way: a photograph of a phone, or a progressive one of 1.2
million pixels."""
LONGEST_PART = 16 * MAX_BYTES
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
"""What a decoder may know of the server's environment, where tokens can be."""


class Busy(Exception):
    """As many requests as may wait are waiting."""


@dataclass(frozen=True)
class Kept:
    """An image that was decoded and stored: its name (the checksum of its pixels), uint8 `[size, size, 3]` for the
    model, WebP."""

    name: str
    pixels: np.ndarray
    thumbnail: bytes


@dataclass(frozen=True)
class Limits:
    """Bytes of memory and seconds of work an image, and how far the process stands back behind others."""

    memory: int
    seconds: float
    nice: int

    @property
    def wall(self) -> float:
        """Seconds after which a process that does not get to work is given up."""
        return 3 * self.seconds + 4


QUICK, SLOW = Limits(512 << 20, 2.0, 0), Limits(1 << 30, 8.0, 10)


class Decoders:
    """Two lanes of processes, so that large images do not hold up small ones. What turns out to be costly in the
    first goes to the second, which has more time, more memory and less of the machine.

    Raises of every method: `Refused` for what cannot be decoded within the limits, `Busy` when too many wait, `OSError`
    where the disk is full.
    """

    def __init__(self, cores: int | None = None, quick: Limits = QUICK, slow: Limits = SLOW) -> None:
        cores = cores or os.cpu_count() or 2
        self.quick = _Lane(quick, max(2, cores // 2), waiting=32, max_work=SMALL)
        self.slow = _Lane(slow, max(1, cores // 4), waiting=6, max_work=None)

    @property
    def waiting(self) -> int:
        """Images that wait for a process."""
        return self.quick.waiting + self.slow.waiting

    @property
    def replaced(self) -> int:
        """Processes that ended or were ended so far."""
        return self.quick.replaced + self.slow.replaced

    async def start(self) -> None:
        """Returns when all processes run."""
        await asyncio.gather(self.quick.start(), self.slow.start())

    async def close(self) -> None:
        await asyncio.gather(self.quick.close(), self.slow.close())

    async def pixels(self, data: bytes, size: int, fit: Fit = "crop") -> np.ndarray:
        """An upload for the model: uint8 `[size, size, 3]`."""
        _, parts = await self._run("pixels", data, size=size, fit=fit)
        return _square(parts[0], size)

    async def keep(self, data: bytes, size: int, folder: Path, fit: Fit = "crop") -> Kept:
        """An upload that is to be added: also written into `folder`, as PNG under its name."""
        head, parts = await self._run("keep", data, size=size, fit=fit, folder=str(folder))
        return Kept(Path(str(head["name"])).name, _square(parts[0], size), parts[1])

    async def thumbnail(self, path: str, side: int) -> bytes:
        """The image in a file as WebP, at most `side` pixels wide and high."""
        _, parts = await self._run("thumbnail", b"", path=path, side=side)
        return parts[0]

    async def _run(self, job: str, data: bytes, **options: Any) -> Message:
        for lane in (self.quick, self.slow):
            head, parts = await lane.run({"job": job, "options": {**options, "max_work": lane.max_work}}, data)
            if not head.get("costly"):
                break
        if "refused" in head:
            status, reason = head["refused"]
            raise Refused(int(status), str(reason))
        if "failed" in head:
            raise OSError(head["failed"], head["reason"])
        return head, parts


def _square(raw: bytes, size: int) -> np.ndarray:
    return np.frombuffer(raw, np.uint8).reshape(size, size, 3)


class _Lane:
    def __init__(self, limits: Limits, count: int, waiting: int, max_work: int | None) -> None:
        self.limits, self.count, self.max_waiting, self.max_work = limits, count, waiting, max_work
        self.waiting = self.replaced = 0
        self._free: asyncio.Queue[_Process] = asyncio.Queue()
        self._all: set[_Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await asyncio.gather(*(self._add() for _ in range(self.count)))

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(process.end() for process in self._all))

    async def run(self, head: dict[str, Any], data: bytes) -> Message:
        if self.waiting >= self.max_waiting:
            raise Busy
        process = await self._next()
        fit = False
        try:
            answer = await asyncio.wait_for(process.ask(head, data), self.limits.wall)
            fit = not answer[0].get("last")
            return answer
        except TimeoutError:
            raise self._too_long() from None
        except (EOFError, OSError, ValueError, KeyError):  # it ended, or says what no decoder of ours says
            if await process.end() == -signal.SIGPROF:
                raise self._too_long() from None
            raise Refused(413, f"the image cannot be decoded ({MAX_PIXELS:,} pixels are the limit)") from None
        finally:
            if fit:
                self._free.put_nowait(process)
            else:
                self._replace(process)

    async def _next(self) -> "_Process":
        """The one that has been free for longest; those that the system ended meanwhile are replaced."""
        self.waiting += 1
        try:
            while (process := await self._free.get()).ended:
                self._replace(process)
            return process
        finally:
            self.waiting -= 1

    def _replace(self, process: "_Process") -> None:
        self.replaced += 1
        for work in (self._end(process), self._add()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end(self, process: "_Process") -> None:
        await process.end()
        self._all.discard(process)  # not before: what is cancelled here, `close` ends

    def _too_long(self) -> Refused:
        return Refused(413, f"the image takes more than {self.limits.seconds:g} seconds to decode")

    async def _add(self) -> None:
        while True:
            try:
                process = await _Process.start(self.limits)
            except (OSError, EOFError) as error:
                logger.error("a process for decoding cannot be started: %s", error)
                await asyncio.sleep(1)
                continue
            self._all.add(process)
            self._free.put_nowait(process)
            return


class _Process:
    """One decoder. Its messages are not trusted: whoever sends it an image may have taken it over."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, limits: Limits) -> "_Process":
        known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        process = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "pullpush.server.decoder"),
                *(str(each) for each in (limits.memory, limits.seconds, limits.nice)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # 60,000 warnings of one image are nobody's
                start_new_session=True,  # Ctrl-C is the server's
                env={**known, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        )
        try:
            await process._answer()
        except BaseException:
            await process.end()
            raise
        return process

    @property
    def ended(self) -> bool:
        """Asked of the system: asyncio learns of it some time later, and an image must not be blamed for it."""
        if self._process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def ask(self, head: dict[str, Any], data: bytes) -> Message:
        assert self._process.stdin is not None
        self._process.stdin.writelines([pack(head, [data]), data])
        await self._process.stdin.drain()
        return await self._answer()

    async def end(self) -> int:
        """Ends it where it has not ended by itself; its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode is None:
            try:
                await asyncio.wait_for(self._process.wait(), 0.05)  # the answer ended because it did
            except TimeoutError:
                with suppress(ProcessLookupError):  # it may have ended meanwhile
                    self._process.kill()
        await self._process.communicate()  # `wait` alone waits for ever where an answer was not read to its end
        return await self._process.wait()

    async def _answer(self) -> Message:
        assert self._process.stdout is not None
        (length,) = struct.unpack(">I", await self._process.stdout.readexactly(4))
        if length > LONGEST:
            raise ValueError("the answer is too long")
        head = json.loads(await self._process.stdout.readexactly(length))
        if sum(head["parts"]) > LONGEST_PART or min(head["parts"], default=0) < 0:
            raise ValueError("the answer is too long")
        return head, [await self._process.stdout.readexactly(part) for part in head["parts"]]
