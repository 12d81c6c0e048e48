"""Kill -9 at random points of a build and of updates: always a whole index, old or new."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from pullpush import search
from pullpush.search import layout
from tests.support.fake import FakeModel, write_folder
from tests.support.killing import killed_before
from tests.support.running import spawn, wait_end


def answer(out: Path) -> dict[str, float]:
    hits = search.open(out, FakeModel()).query(text="blue", k=200, cut_off=None)
    return {Path(hit.path).relative_to(out.parent).as_posix(): round(hit.score, 4) for hit in hits}


@pytest.mark.parametrize("kind", ["build", "update"])
def test_killed_at_random_points(tmp_path: Path, kind: str) -> None:
    """Ten points each, spread over the time that the work takes; then the next run finishes it."""
    model, source, out = FakeModel(), tmp_path / "images", tmp_path / "index"
    write_folder(source, each=4)
    old = None
    if kind == "update":
        search.build_index(model, source, out, projection="pca")
        old = answer(out)
        write_folder(source, each=9)
        (source / "red" / "0.png").unlink()
    search.build_index(model, source, tmp_path / "expected", projection="pca")
    new = answer(tmp_path / "expected")
    assert new != old

    trial = spawn("build", tmp_path / "log", source=str(source), out=str(tmp_path / "timed"))
    began = time.perf_counter()
    wait_end(trial)
    takes = time.perf_counter() - began
    killed = 0
    for moment in np.random.default_rng(len(kind)).uniform(0, takes * 1.05, 10):
        writer = spawn("build", tmp_path / "log", source=str(source), out=str(out))
        time.sleep(moment)
        if psutil.pid_exists(writer):
            os.kill(writer, signal.SIGKILL)
            killed += 1
        wait_end(writer)
        published = layout.current(out)
        if published is None:
            assert old is None
        else:
            layout.verify(*published)
            assert answer(out) in ([new] if old is None else [old, new])
    assert killed
    search.build_index(model, source, out, projection="pca")
    assert answer(out) == new
    leftovers = {path.name for path in out.iterdir()} - {"CURRENT", "uid", "versions", "writer.lock"}
    assert not leftovers
    assert all(path.name.isdigit() for path in (out / "versions").iterdir())


def test_killed_before_every_flush_and_rename(tmp_path: Path) -> None:
    """The same without chance: the writer is killed right before its n-th flush or rename, for every n."""
    model, source, out = FakeModel(), write_folder(tmp_path / "images", each=3), tmp_path / "index"
    search.build_index(model, source, out, projection="pca")
    old = answer(out)
    write_folder(source, each=4)
    search.build_index(model, source, tmp_path / "expected", projection="pca")
    new = answer(tmp_path / "expected")
    seen, step, killed = [], 0, True
    while killed:
        step += 1
        killed = killed_before(step, partial(search.build_index, model, source, out, projection="pca")) is None
        layout.verify(*layout.current(out))
        seen.append("old" if answer(out) == old else "new" if answer(out) == new else "broken")
    assert seen == sorted(seen, reverse=True), seen  # old ... old, new ... new: it never goes back
    assert seen[0] == "old"
    assert seen[-1] == "new"
    assert len(seen) > 10
