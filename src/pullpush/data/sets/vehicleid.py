"""PKU VehicleID (Liu et al. 2016, Deep Relative Distance Learning)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from pullpush.data.benchmarks import Images, Layouts, Published, find_tree, finish, read_list, save
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.names import look_up

__all__ = ["LAYOUTS", "PUBLISHED", "read_vehicleid"]

SIZES = {"small": 800, "medium": 1600, "large": 2400}
PUBLISHED: Published = {
    f"vehicleid-{size}": {"train": {"classes": 13164}, "test": {"classes": vehicles}}
    for size, vehicles in SIZES.items()
}

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
    names = {**{name: name for name in SIZES}, **{str(vehicles): name for name, vehicles in SIZES.items()}}
    test = look_up("--data.size", str(size), names)
    mark = "train_test_split/train_list.txt"
    tree = find_tree(root, "VehicleID", ["VehicleID_V1.0"], mark)
    frames = []
    for split, name in (("train", "train_list.txt"), ("test", f"test_list_{SIZES[test]}.txt")):
        listed = read_list(tree / "train_test_split" / name, ["image", "vehicle"])
        paths = [str(tree / "image" / (n if n.endswith(".jpg") else f"{n}.jpg")) for n in listed["image"]]
        frames.append(pd.DataFrame({"path": paths, "class": listed["vehicle"], "split": split}))
    return finish(f"vehicleid-{test}", pd.concat(frames, ignore_index=True), tree, missing)


def _vehicleid(folder: Path, content: Images) -> Path:
    lines: dict[str, list[str]] = {"train_list": [], "test_list_800": [], "test_list_1600": [], "test_list_2400": []}
    half = len(content) // 2
    for number, images in enumerate(content):
        for i, image in enumerate(images):
            name = f"{number * 10 + i:07d}"
            save(image, folder / "image" / f"{name}.jpg")
            for file in ["train_list"] if number < half else list(lines)[1:]:
                lines[file].append(f"{name} {4000 + number}")
    (folder / "train_test_split").mkdir()
    for file, rows in lines.items():
        (folder / "train_test_split" / f"{file}.txt").write_text("\n".join(rows) + "\n")
    return folder


LAYOUTS: Layouts = {"vehicleid": _vehicleid}
