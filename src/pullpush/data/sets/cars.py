"""Cars-196 (Krause et al. 2013), split as in Song et al. 2016: the first half of the classes trains."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pullpush.data.benchmarks import Images, Written, find_tree, finish, save_images
from pullpush.data.folder import read_folder
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.errors import UserError
from pullpush.images.decode import DECODE_ERRORS

__all__ = ["LAYOUTS", "PUBLISHED", "read_cars"]

PUBLISHED = {"cars": {"train": {"images": 8054, "classes": 98}, "test": {"images": 8131, "classes": 98}}}
DEVKIT = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
"""Folder of images -> their annotations."""


def read_cars(*, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """Cars-196 in one of its three layouts:

    - `cars_annos.mat` and `car_ims/`;
    - `devkit/` with `cars_train_annos.mat`, `cars_test_annos_withlabels.mat` and `cars_meta.mat`, `cars_train/` and
      `cars_test/`;
    - class folders in `train/` and `test/`.

    Classes 1 to 98, in the order of the annotations (the sorted names), are training, the others test; the layouts' own
    division into train and test is for classification and has all classes on both sides, so it is not used.

    Args:
        root: The folder.
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    tree = find_tree(root, "Cars-196", [], "cars_annos.mat", "devkit", "train")
    if (tree / "cars_annos.mat").exists():
        rows, names = _annotated(tree / "cars_annos.mat", "relative_im_path"), _names(tree / "cars_annos.mat")
    elif (tree / "devkit").is_dir():
        rows, names = list[tuple[str, int]](), _names(tree / "devkit" / "cars_meta.mat")
        for folder, file in DEVKIT.items():
            path = tree / "devkit" / file
            annotated = _annotated(path if path.exists() else tree / file, "fname")
            rows += [(f"{folder}/{name}", number) for name, number in annotated]
    else:
        items = read_folder(find_tree(tree, "Cars-196", [], "test"), given_splits=False)
        rows, names = list(zip(items.table["path"], items.table["label"] + 1, strict=True)), items.classes
    numbers = np.array([number for _, number in rows])
    if len(rows) and not 1 <= numbers.min() <= numbers.max() <= len(names):
        raise UserError(
            f"{tree}: classes run from {numbers.min()} to {numbers.max()}, but {len(names)} names are given"
        )
    split = np.where(numbers <= len(names) // 2, "train", "test")
    paths = [path for path, _ in rows]
    return finish("cars", tree, missing, paths, [names[number - 1] for number in numbers], split=split)


def _annotated(path: Path, place: str) -> list[tuple[str, int]]:
    """The image, which the field `place` holds, and the number of the class, of each annotation of a file."""
    annotations = np.atleast_1d(_variable(path, "annotations"))
    fields = annotations.dtype.names or ()
    for name in (place, "class"):
        if name not in fields:
            raise UserError(f"{path}: the annotations have no field {name!r}; fields: {', '.join(fields)}")
    return [(name, int(number)) for name, number in annotations[[place, "class"]].tolist()]


def _names(path: Path) -> list[str]:
    return [str(name) for name in np.atleast_1d(_variable(path, "class_names"))]


def _variable(path: Path, name: str) -> NDArray[Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, NDArray[Any]] = loadmat(str(path), squeeze_me=True, variable_names=name)
    except (*DECODE_ERRORS, NotImplementedError, MatReadError) as error:
        why = "the file is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise UserError(f"cannot read {path}: {why}") from error
    if name not in content:
        raise UserError(f"{path} has no variable {name!r}; it should be that of Cars-196")
    return content[name]


def _car_names(content: Images) -> NDArray[Any]:
    return np.array([f"Make Model {number:03d} 2012" for number in range(1, len(content) + 1)], dtype=object)


def _annotations(written: Written, content: Images, path_field: str) -> NDArray[Any]:
    boxes = [(f"bbox_{axis}{i}", object) for i in (1, 2) for axis in "xy"]
    kind = [(path_field, object), *boxes, ("class", object), ("test", object)]
    return np.array([(place, 1, 1, *content[label][i].size, label + 1, 0) for label, i, place in written], dtype=kind)


def _in_order(place: str) -> Callable[[int, int], str]:
    """Places with the next number at each call."""
    numbers = count(1)
    return lambda label, i: place.format(next(numbers))


def _cars(folder: Path, content: Images) -> Path:
    from scipy.io import savemat

    written = save_images(folder, content, _in_order("car_ims/{:06d}.jpg"))
    annotations = _annotations(written, content, "relative_im_path")
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": _car_names(content)})
    return folder


def _cars_devkit(folder: Path, content: Images) -> Path:
    from scipy.io import savemat

    (folder / "devkit").mkdir()
    for part, (place, file) in enumerate(DEVKIT.items()):
        images = [of_class[part::2] for of_class in content]
        written = save_images(folder / place, images, _in_order("{:05d}.jpg"))
        savemat(folder / "devkit" / file, {"annotations": _annotations(written, images, "fname")})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": _car_names(content)})
    return folder


def _cars_folders(folder: Path, content: Images) -> Path:
    names = _car_names(content)
    save_images(folder, content, lambda label, i: f"{('train', 'test')[i % 2]}/{names[label]}/{i:05d}.jpg")
    return folder


LAYOUTS = {"cars": _cars, "cars-devkit": _cars_devkit, "cars-folders": _cars_folders}
