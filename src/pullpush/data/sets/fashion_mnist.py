"""Fashion-MNIST (Xiao et al. 2017), from its idx files."""

import gzip
from pathlib import Path

import numpy as np

from pullpush.data.benchmarks import Images
from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.images.decode import DECODE_ERRORS
from pullpush.images.files import idx_bytes, read_idx

__all__ = ["LAYOUTS", "PUBLISHED", "read_fashion_mnist"]

PUBLISHED = {"fashion-mnist": {"all": {"images": 70000, "classes": 10}}}
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
PLACES = ("/usr/share/datasets/fashion-mnist", "~/.cache/fashion-mnist", "data/FashionMNIST/raw")
"""Looked in where no root is given: the Debian package's, a cache, torchvision's."""


def read_fashion_mnist(*, root: str | Path | None = None) -> Items:
    """`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`, each plain or `.gz`: 28 x 28 grey images of
    ten classes.

    The official division has all classes on both sides; it is kept as `domain` (`train`, `t10k`), and the split is
    drawn by class.

    Args:
        root: The folder of the four files; by default the usual places are tried (Debian: `apt install
            dataset-fashion-mnist`).
    """
    folder = _folder(root)
    paths, classes, domain = [], [], []
    for part in ("train", "t10k"):
        images, labels = (_file(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        try:
            count, numbers = len(read_idx(str(images))), read_idx(str(labels))
        except DECODE_ERRORS as error:
            raise UserError(f"cannot read {images} and {labels.name}: {error}") from error
        if count != len(numbers):
            raise UserError(f"{images} holds {count} images and {labels.name} {len(numbers)} labels: they do not match")
        if len(numbers) and int(numbers.max()) >= len(CLASSES):
            raise UserError(f"{labels} holds the label {numbers.max()}; Fashion-MNIST has the labels 0 to 9")
        paths += [f"{images}#{row}" for row in range(count)]
        classes += [CLASSES[number] for number in numbers]
        domain += [part] * count
    return Items.build("fashion-mnist", paths, classes, domain=domain)


def _folder(root: str | Path | None) -> Path:
    places = [Path(place).expanduser() for place in PLACES] if root is None else [Path(root)]
    for place in places:
        if _file(place, "train-images-idx3-ubyte").exists():
            return place
    raise UserError(
        f"Fashion-MNIST's train-images-idx3-ubyte(.gz) is not in {' or '.join(map(str, places))}; install it "
        "(Debian: apt install dataset-fashion-mnist) or name its folder with root (--root DIR)"
    )


def _file(folder: Path, name: str) -> Path:
    """The file, plain where there is no compressed one."""
    compressed = folder / f"{name}.gz"
    return compressed if compressed.exists() else folder / name


def _fashion_mnist(folder: Path, content: Images) -> Path:
    for part, offset in (("train", 0), ("t10k", 1)):
        grey = [np.asarray(image.convert("L").resize((28, 28))) for images in content for image in images[offset::2]]
        labels = [number for number, images in enumerate(content) for _ in images[offset::2]]
        for kind, values in (("images-idx3", np.stack(grey)), ("labels-idx1", np.array(labels, dtype=np.uint8))):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(values)))
    return folder


LAYOUTS = {"fashion-mnist": _fashion_mnist}
