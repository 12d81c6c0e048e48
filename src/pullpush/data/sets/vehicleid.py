"""PKU VehicleID (Liu et al. 2016, Deep Relative Distance Learning)."""

from pathlib import Path
from typing import Literal

import pandas as pd

from pullpush.data.benchmarks import Images, find_tree, finish, halves, read_list, save_images, write_list
from pullpush.data.items import Items
from pullpush.data.readers import Missing

__all__ = ["LAYOUTS", "PUBLISHED", "read_vehicleid"]

SIZES = {"small": 800, "medium": 1600, "large": 2400}
PUBLISHED = {
    f"vehicleid-{size}": {"train": {"classes": 13164}, "test": {"classes": vehicles}}
    for size, vehicles in SIZES.items()
}
_LISTS = "train_test_split"

Size = Literal["small", "medium", "large", "800", "1600", "2400"]


def read_vehicleid(*, root: str | Path | None = None, size: Size = "small", missing: Missing = "error") -> Items:
    """`train_test_split/train_list.txt` and `test_list_800.txt`, `_1600`, `_2400` (image name, vehicle id), images in
    `image/`.

    Image names stand in the lists without `.jpg`. The test has no roles in the lists: one gallery image an id is drawn
    by the protocol.

    Args:
        root: The folder, or the one above its `VehicleID_V1.0`.
        size: The test list: `small` (800 vehicles), `medium` (1600) or `large` (2400).
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    test = size if size in SIZES else {str(vehicles): name for name, vehicles in SIZES.items()}[size]
    tree = find_tree(root, "VehicleID", ["VehicleID_V1.0"], f"{_LISTS}/train_list.txt")
    files = {"train": "train_list.txt", "test": f"test_list_{SIZES[test]}.txt"}
    lists = [read_list(tree / _LISTS / file, ["image", "vehicle"]).assign(split=split) for split, file in files.items()]
    listed = pd.concat(lists, ignore_index=True)
    paths = "image/" + listed["image"].str.removesuffix(".jpg") + ".jpg"
    return finish(f"vehicleid-{test}", tree, missing, paths, listed["vehicle"], split=listed["split"])


def _vehicleid(folder: Path, content: Images) -> Path:
    written = save_images(folder / "image", content, lambda label, i: f"{label * 10 + i:07d}.jpg")
    for split, part in halves(written).items():
        rows = [(place.removesuffix(".jpg"), 4000 + label) for label, _, place in part]
        for name in ["train_list"] if split == "train" else [f"test_list_{size}" for size in SIZES.values()]:
            write_list(folder / _LISTS / f"{name}.txt", rows)
    return folder


LAYOUTS = {"vehicleid": _vehicleid}
