"""Small trees in the layouts of the benchmarks, with real images: for tests, and for trying things out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from pullpush.data.emoji import read_emoji
from pullpush.data.items import Items
from pullpush.errors import UserError

Pictures = list[list[Image.Image]]


def make_tree(layout: str, folder: str | Path, *, classes: int = 8, images: int = 4, seed: int = 0) -> Path:
    """Writes `classes` x `images` emoji into `folder` in the layout of a benchmark, half of the classes for training.

    Args:
        layout: One of `LAYOUTS`: sop, inshop, vehicleid, cub, cars, cars-devkit, cars-folders, fashion-mnist, folder,
            manifest.
        folder: Created; must be empty or absent.
        classes: At least 2; Fashion-MNIST has at most 10.
        images: Images a class, 2 to 7 (the number of vendors).
        seed: Which emoji are taken.

    Returns:
        What to open: the folder, or the manifest in it.

    Raises:
        UserError: unknown layout, a folder with something in it, numbers out of range.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}; layouts: {', '.join(LAYOUTS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder")
    most = 10 if layout == "fashion-mnist" else 1000
    if not (2 <= classes <= most and 2 <= images <= 7):
        raise UserError(f"a small tree has 2 to {most} classes of 2 to 7 images, not {classes} of {images}")
    folder.mkdir(parents=True, exist_ok=True)
    return LAYOUTS[layout](folder, _pictures(classes, images, seed))


def _pictures(classes: int, images: int, seed: int) -> Pictures:
    emoji = _emoji()
    by_label = emoji.table.groupby("label").indices
    full = [label for label, rows in by_label.items() if len(rows) >= images]
    chosen = np.random.default_rng(seed).permutation(full)[:classes]
    return [[emoji.open(int(row)) for row in by_label[label][:images]] for label in chosen]


@lru_cache(maxsize=1)
def _emoji() -> Items:
    """Read once: tests make many trees."""
    return read_emoji()


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def _sop(folder: Path, pictures: Pictures) -> Path:
    half = len(pictures) // 2
    for split, numbers in (("train", range(half)), ("test", range(half, len(pictures)))):
        lines = ["image_id class_id super_class_id path"]
        for number in numbers:
            super_class = number % 2 + 1
            for i, image in enumerate(pictures[number]):
                name = f"{('bicycle', 'chair')[number % 2]}_final/{1100 + number}_{i}.JPG"
                _save(image, folder / name)
                lines.append(f"{len(lines)} {number + 1} {super_class} {name}")
        (folder / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def _inshop(folder: Path, pictures: Pictures) -> Path:
    rows = []
    for number, images in enumerate(pictures):
        for i, image in enumerate(images):
            name = f"img/WOMEN/{('Dresses', 'Shorts')[number % 2]}/id_{number + 1:08d}/{i + 1:02d}_1_front.jpg"
            _save(image, folder / "Img" / name)
            status = "train" if number < len(pictures) // 2 else ("query", "gallery")[i % 2]
            rows.append(f"{name:<70} id_{number + 1:08d} {status}")
    (folder / "Eval").mkdir()
    text = "\n".join([str(len(rows)), "image_name item_id evaluation_status", *rows])
    (folder / "Eval" / "list_eval_partition.txt").write_text(text + "\n")
    return folder


def _vehicleid(folder: Path, pictures: Pictures) -> Path:
    lines: dict[str, list[str]] = {"train_list": [], "test_list_800": [], "test_list_1600": [], "test_list_2400": []}
    half = len(pictures) // 2
    for number, images in enumerate(pictures):
        for i, image in enumerate(images):
            name = f"{number * 10 + i:07d}"
            _save(image, folder / "image" / f"{name}.jpg")
            for file in ["train_list"] if number < half else list(lines)[1:]:
                lines[file].append(f"{name} {4000 + number}")
    (folder / "train_test_split").mkdir()
    for file, rows in lines.items():
        (folder / "train_test_split" / f"{file}.txt").write_text("\n".join(rows) + "\n")
    return folder


def _cub(folder: Path, pictures: Pictures) -> Path:
    names, images, labels = [], [], []
    for number, pictures_of_class in enumerate(pictures, 1):
        name = f"{number:03d}.Bird_{number}"
        names.append(f"{number} {name}")
        for i, image in enumerate(pictures_of_class):
            _save(image, folder / "images" / name / f"Bird_{i:04d}.jpg")
            images.append(f"{len(images) + 1} {name}/Bird_{i:04d}.jpg")
            labels.append(f"{len(labels) + 1} {number}")
    for file, rows in (("classes", names), ("images", images), ("image_class_labels", labels)):
        (folder / f"{file}.txt").write_text("\n".join(rows) + "\n")
    return folder


def _car_names(pictures: Pictures) -> np.ndarray:
    return np.array([f"Make Model {number:03d} 2012" for number in range(1, len(pictures) + 1)], dtype=object)


def _annotations(rows: list[tuple[str, int, Image.Image]], path_field: str) -> np.ndarray:
    boxes = [(f"bbox_{axis}{i}", object) for i in (1, 2) for axis in "xy"]
    kind = [(path_field, object), *boxes, ("class", object), ("test", object)]
    return np.array([(p, 1, 1, im.width, im.height, number, 0) for p, number, im in rows], dtype=kind)


def _cars(folder: Path, pictures: Pictures) -> Path:
    from scipy.io import savemat

    rows: list[tuple[str, int, Image.Image]] = []
    for number, images in enumerate(pictures, 1):
        for image in images:
            rows.append((f"car_ims/{len(rows) + 1:06d}.jpg", number, image))
            _save(image, folder / rows[-1][0])
    content = {"annotations": _annotations(rows, "relative_im_path"), "class_names": _car_names(pictures)}
    savemat(folder / "cars_annos.mat", content)
    return folder


def _cars_devkit(folder: Path, pictures: Pictures) -> Path:
    from scipy.io import savemat

    (folder / "devkit").mkdir()
    for part, (place, file) in enumerate(
        (("cars_train", "cars_train_annos"), ("cars_test", "cars_test_annos_withlabels"))
    ):
        rows: list[tuple[str, int, Image.Image]] = []
        for number, images in enumerate(pictures, 1):
            for image in images[part::2]:
                rows.append((f"{len(rows) + 1:05d}.jpg", number, image))
                _save(image, folder / place / rows[-1][0])
        savemat(folder / "devkit" / f"{file}.mat", {"annotations": _annotations(rows, "fname")})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": _car_names(pictures)})
    return folder


def _cars_folders(folder: Path, pictures: Pictures) -> Path:
    for name, images in zip(_car_names(pictures), pictures, strict=True):
        for i, image in enumerate(images):
            _save(image, folder / ("train", "test")[i % 2] / name / f"{i:05d}.jpg")
    return folder


def _fashion_mnist(folder: Path, pictures: Pictures) -> Path:
    for part, offset in (("train", 0), ("t10k", 1)):
        grey = [np.asarray(image.convert("L").resize((28, 28))) for images in pictures for image in images[offset::2]]
        labels = [number for number, images in enumerate(pictures) for _ in images[offset::2]]
        for kind, values in (("images-idx3", np.stack(grey)), ("labels-idx1", np.array(labels, dtype=np.uint8))):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
    return folder


def _folder(folder: Path, pictures: Pictures) -> Path:
    for number, images in enumerate(pictures):
        for i, image in enumerate(images):
            _save(image, folder / f"class_{number}" / f"{i}.png")
    return folder


def _manifest(folder: Path, pictures: Pictures) -> Path:
    lines = ["label,path,split,is_query,is_gallery,category,x_1,x_2,y_1,y_2,text"]
    for number, images in enumerate(pictures):
        train = number < len(pictures) // 2
        for i, image in enumerate(images):
            path = f"images/{number}_{i}.png"
            _save(image, folder / path)
            roles = "," if train else f"{i % 2 == 0},{i % 2 == 1}"
            box = f"0,{image.width},0,{image.height}"
            text = json.dumps(f"image {i}|thing {number}")
            lines.append(f"{number},{path},{'train' if train else 'validation'},{roles},c{number % 2},{box},{text}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


LAYOUTS: dict[str, Callable[[Path, Pictures], Path]] = {
    "sop": _sop,
    "inshop": _inshop,
    "vehicleid": _vehicleid,
    "cub": _cub,
    "cars": _cars,
    "cars-devkit": _cars_devkit,
    "cars-folders": _cars_folders,
    "fashion-mnist": _fashion_mnist,
    "folder": _folder,
    "manifest": _manifest,
}
