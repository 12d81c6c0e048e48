"""Cars-196 (Krause et al. 2013), split as in Song et al. 2016: the first half of the classes trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pullpush.data.benchmarks import Images, Layouts, Published, finish, save
from pullpush.data.folder import read_folder
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.errors import UserError
from pullpush.images.decode import DECODE_ERRORS

__all__ = ["LAYOUTS", "PUBLISHED", "read_cars"]

PUBLISHED: Published = {"cars": {"train": {"images": 8054, "classes": 98}, "test": {"images": 8131, "classes": 98}}}


def read_cars(*, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """Cars-196 in one of its three layouts:

    - `cars_annos.mat` and `car_ims/`;
    - `devkit/cars_train_annos.mat`, `devkit/cars_test_annos_withlabels.mat`, `devkit/cars_meta.mat`, `cars_train/`,
    `cars_test/`; - class folders in `train/` and `test/`.

    Classes 1 to 98, in the order of the annotations (the sorted names), are training, the others test; the layouts' own
    division into train and test is for classification and has all classes on both sides, so it is not used.

    Args:
        root: The folder.
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    if root is None:
        raise UserError("Cars-196 is read from your own download: name its folder with root (--root DIR)")
    tree = Path(root)
    if not tree.is_dir():
        raise UserError(f"the folder {tree} does not exist; root (--root DIR) names the folder of Cars-196")
    if (tree / "cars_annos.mat").exists():
        paths, numbers, names = _one_file(tree)
    elif (tree / "devkit").is_dir():
        paths, numbers, names = _devkit(tree)
    elif (tree / "train").is_dir() and (tree / "test").is_dir():
        items = read_folder(tree, given_splits=False)
        paths = list(items.table["path"])
        names, numbers = items.classes, items.table["label"].to_numpy() + 1
    else:
        wanted = "cars_annos.mat, nor devkit/, nor train/ and test/ with class folders"
        raise UserError(f"{tree} is not Cars-196 in one of its layouts: it has neither {wanted}")
    if len(numbers) and not 1 <= min(numbers) <= max(numbers) <= len(names):
        raise UserError(f"{tree}: classes run from {min(numbers)} to {max(numbers)}, but {len(names)} names are given")
    train = np.asarray(numbers) <= len(names) // 2
    frame = pd.DataFrame(
        {"path": paths, "class": [names[n - 1] for n in numbers], "split": np.where(train, "train", "test")}
    )
    return finish("cars", frame, tree, missing)


def _one_file(tree: Path) -> tuple[list[str], list[int], list[str]]:
    content = _mat(tree / "cars_annos.mat", "annotations", "class_names")
    rows = _fields(tree / "cars_annos.mat", content["annotations"], "relative_im_path", "class")
    return [str(tree / path) for path, _ in rows], [int(number) for _, number in rows], _names(content["class_names"])


def _devkit(tree: Path) -> tuple[list[str], list[int], list[str]]:
    kit = tree / "devkit"
    names = _names(_mat(kit / "cars_meta.mat", "class_names")["class_names"])
    paths, numbers = [], []
    for folder, file in (("cars_train", "cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
        path = kit / file if (kit / file).exists() else tree / file
        for name, number in _fields(path, _mat(path, "annotations")["annotations"], "fname", "class"):
            paths.append(str(tree / folder / name))
            numbers.append(int(number))
    return paths, numbers, names


def _mat(path: Path, *variables: str) -> Mapping[str, NDArray[Any]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, NDArray[Any]] = loadmat(str(path), squeeze_me=True)
    except (*DECODE_ERRORS, NotImplementedError, MatReadError) as error:
        why = "the file is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise UserError(f"cannot read {path}: {why}") from error
    for variable in variables:
        if variable not in content:
            raise UserError(f"{path} has no variable {variable!r}; it should be that of Cars-196")
    return content


def _fields(path: Path, annotations: NDArray[Any], *names: str) -> list[tuple[Any, ...]]:
    annotations = np.atleast_1d(annotations)
    for name in names:
        if name not in (annotations.dtype.names or ()):
            raise UserError(
                f"{path}: the annotations have no field {name!r}; fields: {', '.join(annotations.dtype.names or ())}"
            )
    return list(zip(*(annotations[name].tolist() for name in names), strict=True))


def _names(names: NDArray[Any]) -> list[str]:
    return [str(name) for name in np.atleast_1d(names)]


def _car_names(content: Images) -> NDArray[Any]:
    return np.array([f"Make Model {number:03d} 2012" for number in range(1, len(content) + 1)], dtype=object)


def _annotations(rows: list[tuple[str, int, Image.Image]], path_field: str) -> NDArray[Any]:
    boxes = [(f"bbox_{axis}{i}", object) for i in (1, 2) for axis in "xy"]
    kind = [(path_field, object), *boxes, ("class", object), ("test", object)]
    return np.array([(p, 1, 1, im.width, im.height, number, 0) for p, number, im in rows], dtype=kind)


def _cars(folder: Path, content: Images) -> Path:
    from scipy.io import savemat

    rows: list[tuple[str, int, Image.Image]] = []
    for number, images in enumerate(content, 1):
        for image in images:
            rows.append((f"car_ims/{len(rows) + 1:06d}.jpg", number, image))
            save(image, folder / rows[-1][0])
    variables = {"annotations": _annotations(rows, "relative_im_path"), "class_names": _car_names(content)}
    savemat(folder / "cars_annos.mat", variables)
    return folder


def _cars_devkit(folder: Path, content: Images) -> Path:
    from scipy.io import savemat

    (folder / "devkit").mkdir()
    for part, (place, file) in enumerate(
        (("cars_train", "cars_train_annos"), ("cars_test", "cars_test_annos_withlabels"))
    ):
        rows: list[tuple[str, int, Image.Image]] = []
        for number, images in enumerate(content, 1):
            for image in images[part::2]:
                rows.append((f"{len(rows) + 1:05d}.jpg", number, image))
                save(image, folder / place / rows[-1][0])
        savemat(folder / "devkit" / f"{file}.mat", {"annotations": _annotations(rows, "fname")})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": _car_names(content)})
    return folder


def _cars_folders(folder: Path, content: Images) -> Path:
    for name, images in zip(_car_names(content), content, strict=True):
        for i, image in enumerate(images):
            save(image, folder / ("train", "test")[i % 2] / name / f"{i:05d}.jpg")
    return folder


LAYOUTS: Layouts = {"cars": _cars, "cars-devkit": _cars_devkit, "cars-folders": _cars_folders}
