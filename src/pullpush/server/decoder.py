"""A process that decodes what strangers send, and nothing else: `python -m pullpush.server.decoder`.

A hostile image can hold a decoder for minutes, take gigabytes, or end the process. Here it has its own: memory and
seconds of work are limited by the system, which ends the process where they are exceeded; the server (`decoders.py`)
starts another. It has neither the model nor the index nor the server's environment, and ends with the server.

A message in either direction is a length (4 bytes), so many bytes of JSON, and the parts whose lengths stand under
`parts`. No pickles: what an image has taken over must not reach the server.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from pullpush.errors import UserError
from pullpush.images import Fit, TooLarge, open_rgb, resize_and_center
from pullpush.images import decode as decode_image
from pullpush.images.decode import DECODE_ERRORS, MAX_PIXELS
from pullpush.images.files import archived, read_regular
from pullpush.search.staging import keep
from pullpush.search.thumbnails import thumbnail
from pullpush.server.uploads import Costly, Refused, decode

__all__ = ["LONGEST", "Message", "main", "pack"]

LONGEST = 1 << 20
"""Bytes of JSON in a message."""
GROWN = 64 << 20
"""Bytes of memory that a process may keep from one image to the next."""
M_MMAP_THRESHOLD = -3  # malloc.h
Message = tuple[dict[str, Any], list[bytes]]


def pack(head: dict[str, Any], parts: list[bytes]) -> bytes:
    """A message, but for its parts."""
    raw = json.dumps({**head, "parts": [len(part) for part in parts]}).encode()
    return struct.pack(">I", len(raw)) + raw


def main() -> None:
    """Answers requests until there are no more."""
    memory, seconds, nice = (float(each) for each in sys.argv[1:4])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints is no answer
    warnings.simplefilter("ignore")
    os.nice(int(nice))
    start = _limit(int(memory))
    head: dict[str, Any] = {"ready": True}
    parts: list[bytes] = []
    while True:
        answers.write(pack(head, parts) + b"".join(parts))
        answers.flush()
        if head.get("last"):
            return
        request = _read(requests)
        if request is None:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)  # seconds of work, not of waiting; then the system ends us
        head, parts = _answer(*request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        head["last"] = _resident() - start > GROWN


def _answer(request: dict[str, Any], parts: list[bytes]) -> Message:
    try:
        return _JOBS[request["job"]](parts, **request["options"])
    except Costly:
        return {"costly": True}, []
    except Refused as error:
        return {"refused": [error.status, str(error)]}, []
    except UserError:
        return {"refused": [400, "the image cannot be read"]}, []
    except MemoryError:
        return {"refused": [413, "the image takes too much memory to decode"]}, []
    except OSError as error:
        return {"failed": error.errno, "reason": error.strerror or "the image could not be stored"}, []
    except DECODE_ERRORS:
        return {"refused": [400, "the image cannot be read"]}, []


def _pixels(parts: list[bytes], size: int, max_work: int | None, fit: Fit = "crop") -> Message:
    return {}, [resize_and_center(decode(parts[0], max_work=max_work), size, fit).tobytes()]


def _keep(parts: list[bytes], size: int, folder: str, max_work: int | None, fit: Fit = "crop") -> Message:
    """Writes the image into `folder`, under the checksum of its pixels; its pixels for the model; its thumbnail."""
    image = decode(parts[0], max_work=max_work)
    return {"name": keep(image, Path(folder)).name}, [resize_and_center(image, size, fit).tobytes(), thumbnail(image)]


def _thumbnail(parts: list[bytes], path: str, side: int, max_work: int | None) -> Message:
    if archived(path) is not None:
        return {}, [thumbnail(open_rgb(path), side)]
    try:
        return {}, [thumbnail(decode_image(read_regular(path), max_pixels=max_work or MAX_PIXELS), side)]
    except TooLarge as error:
        raise Costly from error


_JOBS: dict[str, Callable[..., Message]] = {"pixels": _pixels, "keep": _keep, "thumbnail": _thumbnail}


def _limit(memory: int) -> int:
    """At most `memory` bytes beyond what is in use; none of it kept when it is freed. What is resident now."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = _statm()
    if pages:
        limit = pages[0] * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Image.init()
    return _resident()


def _statm() -> list[int]:
    """Pages of address space, of memory, and so on; nothing where the system does not say so."""
    try:
        return [int(each) for each in Path("/proc/self/statm").read_text().split()]
    except FileNotFoundError:  # only Linux counts address space in a way that can be limited
        return []


def _resident() -> int:
    return sum(_statm()[1:2]) * resource.getpagesize()


def _read(stream: BinaryIO) -> Message | None:
    start = stream.read(4)
    if len(start) < 4:
        return None
    head = json.loads(stream.read(struct.unpack(">I", start)[0]))
    return head, [stream.read(length) for length in head["parts"]]


if __name__ == "__main__":
    main()
