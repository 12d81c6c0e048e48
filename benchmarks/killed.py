"""Features of 20,000 images, their computation killed (SIGKILL) at ten random points and begun again each time.

    python benchmarks/killed.py                        # a few minutes on one core
    python benchmarks/killed.py --images 3000 --kills 3

Each attempt is a process of its own, as a command is. Said in the end, and checked: the features are those of an
attempt that nothing disturbed, to the bit, and no attempt lost more than one shard. The images are noise, of 32 x 32
pixels, in one archive; the backbone is timm's `test_efficientnet`.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE = 32


def archive(path: Path, images: int) -> None:
    """The images, as an archive of Fashion-MNIST has them."""
    header = np.array([0x803, images, SIZE, SIZE], ">u4").tobytes()
    pixels = np.random.default_rng(0).integers(0, 256, (images, SIZE, SIZE), np.uint8)
    path.write_bytes(header + pixels.tobytes())


def attempt(path: Path, images: int, log: Path) -> None:
    """Computes the features, and writes a byte into the log for each image that is embedded."""
    import pandas as pd

    from pullpush.data.items import Items
    from pullpush.encoders import ImageEncoder
    from pullpush.runs.options import config_from
    from pullpush.training.towers import ImageTower

    options = {"name": "test_efficientnet", "weights": "none", "size": SIZE, "dim": 16, "freeze": True}
    config = config_from({"encoder": options, "data": {"workers": 0}})
    rows = np.arange(images)
    table = pd.DataFrame({"id": rows, "label": rows % 10, "split": "train", "path": [f"{path}#{row}" for row in rows]})
    items = Items(table, {label: str(label) for label in range(10)}, "noise")
    file, embed = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), ImageEncoder.features

    def features(self, inputs):
        os.write(file, b"x" * len(inputs))
        return embed(self, inputs)

    ImageEncoder.features = features
    ImageTower(config, items)


def shards(cache: Path) -> list[int]:
    """The first rows of those that are there."""
    return [int(path.name.split(".")[0]) for path in cache.glob("features/*.parts/[0-9]*.npy")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attempt", nargs=2, help=argparse.SUPPRESS)
    own = parser.parse_args()
    if own.attempt:
        attempt(Path(own.attempt[0]), own.images, Path(own.attempt[1]))
        return
    from pullpush.training.feature_cache import SHARD

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        archive(path := work / "noise-idx3-ubyte", own.images)

        def begin(cache: Path, log: Path) -> subprocess.Popen[bytes]:
            log.write_bytes(b"")
            words = [sys.executable, __file__, "--images", str(own.images), "--attempt", str(path), str(log)]
            return subprocess.Popen(words, env={**os.environ, "PULLPUSH_CACHE": str(cache)})

        def whole(cache: Path) -> tuple[str, bytes]:
            (file,) = (cache / "features").iterdir()
            return file.name, file.read_bytes()

        log, calm, killed = work / "log", work / "calm", work / "killed"
        assert begin(calm, log).wait() == 0
        assert log.stat().st_size == own.images
        draw, embedded, most, kept, kills = random.Random(own.seed), 0, 0, 0, 0
        points = sorted(draw.randrange(own.images) for _ in range(own.kills))
        for point in points:
            process = begin(killed, log)
            while process.poll() is None and kept + log.stat().st_size <= point:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.05)  # at any moment of what follows, the writing of a shard too
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            before, kept = kept, sum(min(SHARD, own.images - start) for start in shards(killed))
            count = log.stat().st_size
            embedded, most = embedded + count, max(most, count - (kept - before))
            print(f"killed after {count:6,} images; {kept:6,} of {own.images:,} are kept", flush=True)
        assert begin(killed, log).wait() == 0
        embedded += log.stat().st_size
        assert most <= SHARD, most
        assert whole(killed) == whole(calm), "other features"
        print(
            f"{kills} kills of {own.kills}: the same features to the bit; {embedded - own.images:,} images embedded "
            f"twice, at most {most:,} of an attempt (a shard has {SHARD:,})"
        )


if __name__ == "__main__":
    main()
