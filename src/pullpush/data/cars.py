"""Cars-196 (Krause et al. 2013), split as in Song et al. 2016: the first half of the classes trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pullpush.data.benchmarks import finish
from pullpush.data.folder import read_folder
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.errors import UserError
from pullpush.images.decode import DECODE_ERRORS

EXPECTED = {"train": {"images": 8054, "classes": 98}, "test": {"images": 8131, "classes": 98}}


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


def _mat(path: Path, *variables: str) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(str(path), squeeze_me=True)
    except (*DECODE_ERRORS, NotImplementedError, MatReadError) as error:
        why = "the file is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise UserError(f"cannot read {path}: {why}") from error
    for variable in variables:
        if variable not in content:
            raise UserError(f"{path} has no variable {variable!r}; it should be that of Cars-196")
    return content


def _fields(path: Path, annotations: np.ndarray, *names: str) -> list[tuple[Any, ...]]:
    annotations = np.atleast_1d(annotations)
    for name in names:
        if name not in (annotations.dtype.names or ()):
            raise UserError(
                f"{path}: the annotations have no field {name!r}; fields: {', '.join(annotations.dtype.names or ())}"
            )
    return list(zip(*(annotations[name].tolist() for name in names), strict=True))


def _names(names: np.ndarray) -> list[str]:
    return [str(name) for name in np.atleast_1d(names)]
