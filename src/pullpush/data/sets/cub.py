"""CUB-200-2011 birds (Wah et al. 2011), split as in Song et al. 2016: the first half of the classes trains."""

from pathlib import Path

import numpy as np

from pullpush.data.benchmarks import Images, find_tree, finish, read_list, save_images, write_list
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.errors import UserError

__all__ = ["LAYOUTS", "PUBLISHED", "read_cub"]

PUBLISHED = {"cub": {"train": {"images": 5864, "classes": 100}, "test": {"images": 5924, "classes": 100}}}


def read_cub(*, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """`images.txt` (image_id path), `image_class_labels.txt` (image_id class_id), `classes.txt` (class_id name); images
    in `images/`.

    Classes 1 to 100 are training, 101 to 200 are test. The file `train_test_split.txt` is for classification (all
    classes on both sides) and is not read.

    Args:
        root: The folder, or the one above its `CUB_200_2011`.
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    tree = find_tree(root, "CUB-200-2011", ["CUB_200_2011"], "images.txt")
    names = read_list(tree / "classes.txt", ["class_id", "class"])
    images = read_list(tree / "images.txt", ["image_id", "path"])
    labels = read_list(tree / "image_class_labels.txt", ["image_id", "class_id"])
    frame = images.merge(labels, on="image_id", how="left").merge(names, on="class_id", how="left")
    if frame["class"].isna().any():
        lost = frame["path"][frame["class"].isna()]
        raise UserError(
            f"{tree}: {len(lost)} images of images.txt have no class in image_class_labels.txt: {lost.iloc[0]}"
        )
    split = np.where(frame["class_id"].astype(int) <= len(names) // 2, "train", "test")
    return finish("cub", tree, missing, "images/" + frame["path"], frame["class"], split=split)


def _cub(folder: Path, content: Images) -> Path:
    names = [f"{number:03d}.Bird_{number}" for number in range(1, len(content) + 1)]
    written = save_images(folder / "images", content, lambda label, i: f"{names[label]}/Bird_{i:04d}.jpg")
    write_list(folder / "classes.txt", enumerate(names, 1))
    write_list(folder / "images.txt", enumerate((place for *_, place in written), 1))
    write_list(folder / "image_class_labels.txt", enumerate((label + 1 for label, *_ in written), 1))
    return folder


LAYOUTS = {"cub": _cub}
