"""Features of a frozen backbone in shards: cut off anywhere, computed by several processes, in either precision."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush.data.items import Items
from pullpush.encoders import load
from pullpush.errors import UserError
from pullpush.runs.options import config_from
from pullpush.training import feature_cache, train
from pullpush.training.feature_cache import cached_features
from pullpush.training.items import make_items
from pullpush.training.towers import ImageTower
from tests.support import alone

Options = dict[str, Any]
WIDTH = 3


def values(rows: torch.Tensor) -> torch.Tensor:
    return torch.sin(rows[:, None] * torch.arange(1.0, WIDTH + 1))


class Computed:
    """Computes `values`, four rows at a time, and remembers of which rows; `fail`: at this row it can't."""

    def __init__(self, fail: int | None = None) -> None:
        self.rows, self.fail = list[int](), fail

    def __call__(self, rows: torch.Tensor) -> Iterator[torch.Tensor]:
        for part in rows.split(4):
            if self.fail in part.tolist():
                raise UserError("can't read that one")
            self.rows += part.tolist()
            yield values(part)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path))
    monkeypatch.setattr(feature_cache, "SHARD", 8)
    return tmp_path / "features"


def test_what_is_there_is_not_computed_again(cache: Path) -> None:
    first, second = Computed(fail=21), Computed()
    with pytest.raises(UserError, match="can't read that one"):
        cached_features("key", 30, first, [])
    assert sorted(path.name.split(".")[0] for path in cache.glob("key.parts/*.npy")) == ["0", "8"]
    first.rows.clear()
    notes: list[str] = []
    assert torch.equal(cached_features("key", 30, second, notes), values(torch.arange(30)))
    assert second.rows == list(range(16, 30))
    assert notes == []
    assert [path.name.split(".")[0] for path in cache.iterdir()] == ["key"]


def test_a_damaged_shard_is_computed_again_and_said(cache: Path) -> None:
    with pytest.raises(UserError):
        cached_features("key", 30, Computed(fail=28), [])
    path = next(cache.glob("key.parts/8.*.npy"))
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    computed, notes = Computed(), list[str]()
    assert torch.equal(cached_features("key", 30, computed, notes), values(torch.arange(30)))
    assert computed.rows == [*range(8, 16), *range(24, 30)]
    assert notes == [f"the cached features {path} are damaged and are computed anew"]


def test_a_disk_that_fills_up_costs_nothing_that_was_computed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name.startswith("16."):
            raise OSError(28, os.strerror(28))
        replace(source, target)

    monkeypatch.setattr("pullpush.files.write.os.replace", full)
    computed, notes = Computed(), list[str]()
    assert torch.equal(cached_features("key", 30, computed, notes), values(torch.arange(30)))
    assert computed.rows[:24] == list(range(24))
    assert computed.rows[24:] == list(range(16, 30))  # but for the shard that had no room
    (note,) = notes
    assert note.startswith("features are not kept for the next run: can't write")


def test_processes_of_a_run_share_the_shards_and_another_run_waits(cache: Path) -> None:
    """As threads: the lock is one of open files."""
    meeting = threading.Barrier(2)

    class Slow(Computed):
        def __call__(self, rows: torch.Tensor) -> Iterator[torch.Tensor]:
            if not self.rows:
                meeting.wait(10)  # both ranks are at work
            yield from super().__call__(rows)

    ranks, found = [Slow(), Slow()], list[torch.Tensor]()

    def rank(number: int) -> None:
        found.append(cached_features("key", 60, ranks[number], [], number, 2))

    threads = [threading.Thread(target=rank, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(each, values(torch.arange(60))) for each in found)
    assert len(found) == 2
    for number, each in enumerate(ranks):
        assert sorted(each.rows) == [row for row in range(60) if row // 8 % 2 == number]

    begun, go_on = threading.Event(), threading.Event()

    class Held(Computed):
        def __call__(self, rows: torch.Tensor) -> Iterator[torch.Tensor]:
            begun.set()
            go_on.wait(10)
            yield from super().__call__(rows)

    first, second = Held(), Computed()
    one = threading.Thread(target=cached_features, args=("other", 20, first, []))
    one.start()
    begun.wait(10)
    two = threading.Thread(target=cached_features, args=("other", 20, second, []))
    two.start()
    two.join(0.1)
    assert two.is_alive()
    go_on.set()
    one.join()
    two.join()
    assert (sorted(first.rows), second.rows) == (list(range(20)), [])
    assert not list(cache.glob("*.parts"))


KILLED = """
import json, os, shutil, sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # no thread pool, so that forking is safe

from pullpush.encoders import ImageEncoder
from pullpush.training import feature_cache, train
from pullpush.training.towers import image

from tests.support.killing import WRITES, killed_before, spread
from tests.training.test_feature_shards import tower_of

feature_cache.SHARD, image.IMAGES = 32, 8
options, root, kills = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
cache = Path(os.environ["PULLPUSH_CACHE"]) / "features"
log = os.open(root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
embed = ImageEncoder.features


def features(self, inputs):
    os.write(log, b"x" * len(inputs))
    return embed(self, inputs)


def embedded():
    count = os.path.getsize(root / "log")
    os.truncate(root / "log", 0)
    return count


whole = tower_of(options).features
(file,) = cache.iterdir()
name, count = file.name, len(whole)
ImageEncoder.features = features
command = lambda: tower_of(options)
places = [*WRITES, (ImageEncoder, "features")]
shutil.rmtree(cache)
steps = killed_before(0, command, places)
assert embedded() == count
for step in spread(steps, kills):
    shutil.rmtree(cache)
    killed_before(step, command, places)
    starts = [int(path.name.split(".")[0]) for path in cache.glob("*.parts/[0-9]*.npy")]
    first, kept = embedded(), sum(min(32, count - start) for start in starts)
    again = tower_of(options).features
    assert torch.equal(again, whole), step
    assert [path.name for path in cache.iterdir()] == [name], step
    assert first - kept <= 32 and first + embedded() - count <= 32, (step, first, kept)
print(steps)
"""


def tower_of(options: Options) -> ImageTower:
    config = config_from(options)
    return ImageTower(config, make_items(config.data, config.seed, lambda sentence: None))


@pytest.fixture
def tiny(tmp_path: Path) -> Options:
    """200 images of noise, and a frozen backbone."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8)
    for number, pixels in enumerate(noise):
        (folder := tmp_path / "noise" / str(number % 10)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return {
        "data": {"source": str(tmp_path / "noise"), "workers": 0, "check": False},
        "encoder": {"name": "test_efficientnet", "weights": "none", "size": 32, "dim": 16, "freeze": True},
    }


@pytest.mark.parametrize("kills", [8, pytest.param(0, marks=pytest.mark.slow)])
def test_killed_anywhere_it_goes_on_and_embeds_at_most_a_shard_again(
    tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """SIGKILL before eight of the forward passes, flushes and renames, from the first to the last, or before each."""
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    ended = alone(KILLED, json.dumps(tiny), str(tmp_path), str(kills))
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 25 + 7


def test_features_in_bfloat16_are_kept_apart_and_nearly_the_same(
    tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    plain, half = (tower_of({**tiny, "precision": name}).features for name in ("32", "bf16"))
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2
    assert plain is not None
    assert half is not None
    assert plain.dtype == half.dtype == torch.float32
    assert not torch.equal(plain, half)
    assert torch.equal(half, half.bfloat16().float())
    centred = [x - plain.mean(0) for x in (plain, half)]
    assert torch.cosine_similarity(*centred).mean() > 0.99


def test_in_bfloat16_the_test_is_of_the_model_as_it_is_used(small: Options, tmp_path: Path) -> None:
    """The encoder learns in bfloat16; what is tested is the model, which computes in float32."""
    run = train(**{**small, "steps": 2, "precision": "bf16", "nmi": False, "out": str(tmp_path / "run")}, quiet=True)
    test = Items.load(run / "items.parquet").split("test")
    tested = np.load(run / "embeddings" / "test-after.npy")
    found = load(run).embed([test.path(row) for row in range(len(test))])
    np.testing.assert_allclose(found, tested, atol=1e-5)
    assert not np.array_equal(tested, torch.from_numpy(tested).bfloat16().float().numpy())
