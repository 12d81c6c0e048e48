"""Uploads are decoded in processes of their own, which end where they are held up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from benchmarks.attackers import costly_jpeg, encoded, large, many_frames, many_scans, many_warnings
from pullpush.images import resize_and_center, to_rgb
from pullpush.server.decoders import QUICK, Busy, Decoders, Kept, Limits, _Process
from pullpush.server.uploads import MAX_SCANS, Refused, decode
from tests.support.fake import picture
from tests.support.hostile import HOSTILE, good

Result = Any


def with_decoders(work: Callable[[Decoders], Awaitable[Result]], **options: Any) -> Result:
    async def run() -> Result:
        decoders = Decoders(2, **options)
        await decoders.start()
        try:
            return await work(decoders)
        finally:
            await decoders.close()

    return asyncio.run(run())


def children() -> list[psutil.Process]:
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that ended, of another test, and that nobody has waited for
            found += [each] if "pullpush.server.decoder" in each.cmdline() else []
    return found


def signalled(number: signal.Signals) -> None:
    for each in children():
        os.kill(each.pid, number)


def test_a_process_that_ends_just_as_the_patience_with_it_does_is_not_ended_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio has no process left to kill by then, and says so with an error."""
    genuine = asyncio.wait_for

    async def too_late(awaitable: Awaitable[Result], timeout: float) -> Result:
        if timeout < 1:
            await awaitable
            raise TimeoutError
        return await genuine(awaitable, timeout)

    async def work(decoders: Decoders) -> None:
        monkeypatch.setattr("pullpush.server.decoders.asyncio.wait_for", too_late)

    with_decoders(work)
    assert not children()


def test_pixels_and_stored_pictures_are_those_of_the_one_decoder(tmp_path: Path) -> None:
    async def work(decoders: Decoders) -> tuple[np.ndarray, Kept, bytes]:
        data = good("JPEG", "blue")
        (tmp_path / "file.png").write_bytes(good("PNG", "red"))
        return (
            await decoders.pixels(data, 16),
            await decoders.keep(data, 16, tmp_path),
            await decoders.thumbnail(str(tmp_path / "file.png"), 8),
        )

    pixels, kept, small = with_decoders(work)
    expected = decode(good("JPEG", "blue"))
    np.testing.assert_array_equal(pixels, resize_and_center(expected, 16))
    np.testing.assert_array_equal(kept.pixels, pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / kept.name)), np.asarray(expected))
    assert small[:4] == b"RIFF"
    assert not children()


def test_hostile_uploads_are_refused_as_they_are_here() -> None:
    async def work(decoders: Decoders) -> dict[str, int]:
        refused = {}
        for name, (data, _) in HOSTILE.items():
            with pytest.raises(Refused) as error:
                await decoders.pixels(data, 16)
            refused[name] = error.value.status
        return refused

    assert with_decoders(work) == {name: status for name, (_, status) in HOSTILE.items()}


def test_thousands_of_scans_are_refused_without_decoding() -> None:
    assert decode(encoded(picture("red", 1, 64), "JPEG", progressive=True)).size == (64, 64)
    for data in (many_scans(30_000), many_scans(3_000_000)):
        began = time.process_time()
        with pytest.raises(Refused, match=f"scans; the limit is {MAX_SCANS}|parts"):
            decode(data)
        assert time.process_time() - began < 1
    hidden = many_scans(30_000)
    with pytest.raises(Refused, match="parts"):
        decode(hidden[:2] + b"\xff\xfe\x00\x02" * 200_000 + hidden[2:])


def test_more_work_than_allowed_ends_the_process_and_another_takes_its_place() -> None:
    async def work(decoders: Decoders) -> tuple[Refused, np.ndarray, set[int], set[int]]:
        before = {each.pid for each in children()}
        with pytest.raises(Refused) as refused:
            await decoders.pixels(costly_jpeg(side=2000), 16)
        pixels = await decoders.pixels(good(), 16)
        assert decoders.replaced == 1
        while len(children()) < len(before):
            await asyncio.sleep(0.05)
        return refused.value, pixels, before, {each.pid for each in children()}

    refused, pixels, before, after = with_decoders(work, slow=Limits(1 << 30, 0.1, 0))
    assert (refused.status, "seconds to decode" in str(refused)) == (413, True)
    np.testing.assert_array_equal(pixels, resize_and_center(decode(good()), 16))
    assert len(before & after) == len(before) - 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the address space")
def test_more_memory_than_allowed_is_refused_and_none_is_kept() -> None:
    picture = large(side=3600)

    async def refused(decoders: Decoders) -> str:
        with pytest.raises(Refused) as error:
            await decoders.pixels(picture, 16)
        return str(error.value)

    async def kept(decoders: Decoders) -> int:
        before = sum(each.memory_info().rss for each in children())
        await decoders.pixels(picture, 16)
        return sum(each.memory_info().rss for each in children()) - before

    assert "memory" in with_decoders(refused, slow=Limits(24 << 20, 8.0, 0))
    assert with_decoders(kept) < 30e6


def test_a_process_that_is_killed_is_replaced_at_rest_and_at_work() -> None:
    async def work(decoders: Decoders) -> None:
        signalled(signal.SIGKILL)
        await asyncio.sleep(0.2)
        await decoders.pixels(good(), 16)
        signalled(signal.SIGSTOP)
        waiting = asyncio.create_task(decoders.pixels(good(), 16))
        await asyncio.sleep(0.1)
        signalled(signal.SIGKILL)
        with pytest.raises(Refused):
            await waiting
        await decoders.pixels(good(), 16)

    with_decoders(work)


def test_who_gives_up_and_who_gets_nowhere_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "wall", 0.3)

    async def work(decoders: Decoders) -> None:
        signalled(signal.SIGSTOP)
        waiting = asyncio.create_task(decoders.pixels(good(), 16))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert decoders.replaced == 1
        with pytest.raises(Refused, match="seconds to decode"):
            await decoders.pixels(good(), 16)
        assert decoders.replaced == 2

    with_decoders(work)


def test_a_process_whose_long_answer_nobody_reads_ends() -> None:
    async def work() -> int:
        process = await _Process.start(QUICK)
        asking = asyncio.create_task(
            process.ask({"job": "pixels", "options": {"size": 2048, "max_work": None}}, good())
        )
        while not vars(process._process.stdout)["_buffer"]:  # it answers
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.sleep(0.2)  # asyncio stops reading
        return await asyncio.wait_for(process.end(), 10)

    assert asyncio.run(work()) == -signal.SIGKILL
    assert not children()


def test_more_than_may_wait_is_busy() -> None:
    async def work(decoders: Decoders) -> list[object]:
        signalled(signal.SIGSTOP)
        tasks = [asyncio.create_task(decoders.pixels(good(), 16)) for _ in range(40)]
        await asyncio.sleep(0.1)
        signalled(signal.SIGCONT)
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = with_decoders(work)
    assert sum(isinstance(each, Busy) for each in answers) == 40 - 32 - 2
    assert sum(isinstance(each, np.ndarray) for each in answers) == 34


def test_warnings_and_frames_without_number_do_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    async def work(decoders: Decoders) -> None:
        for data in (many_warnings(20_000), many_frames(100_000)):
            with contextlib.suppress(Refused):
                await decoders.pixels(data, 16)

    with_decoders(work)
    assert capfd.readouterr().err == ""


def test_a_decoder_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLPUSH_TOKEN", "s0mesecret")

    async def work(decoders: Decoders) -> list[str]:
        return [Path(f"/proc/{each.pid}/environ").read_text() for each in children()]

    if Path("/proc/self/environ").exists():
        environments = with_decoders(work)
        assert environments
        assert not any("s0mesecret" in each for each in environments)


def test_the_server_itself_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's door is shut in this process: uploads still come through."""

    def shut(*arguments: object, **options: object) -> None:
        raise AssertionError("decoded in the server's own process")

    monkeypatch.setattr(Image, "open", shut)
    monkeypatch.setattr("pullpush.server.decoder.decode", shut)
    pixels = with_decoders(lambda decoders: decoders.pixels(good(), 16))
    monkeypatch.undo()
    np.testing.assert_array_equal(pixels, resize_and_center(to_rgb(picture("red", 1)), 16))
