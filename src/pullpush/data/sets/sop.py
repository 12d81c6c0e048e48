"""Stanford Online Products (Song et al. 2016, Deep Metric Learning via Lifted Structured Feature Embedding)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pullpush.data.benchmarks import Images, Layouts, Published, find_tree, finish, read_list, save
from pullpush.data.items import Items
from pullpush.data.readers import Missing

__all__ = ["LAYOUTS", "PUBLISHED", "read_sop"]

PUBLISHED: Published = {
    "sop": {"train": {"images": 59551, "classes": 11318}, "test": {"images": 60502, "classes": 11316}}
}


def read_sop(*, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """`Ebay_train.txt` and `Ebay_test.txt` (image_id class_id super_class_id path, one heading line), images beside
    them.

    The class is `class_id`; `category` is the super class, by the name of its folder (`bicycle_final` gives `bicycle`).

    Args:
        root: The folder, or the one above its `Stanford_Online_Products`.
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    tree = find_tree(root, "Stanford Online Products", ["Stanford_Online_Products"], "Ebay_train.txt")
    frames = []
    for split in ("train", "test"):
        listed = read_list(tree / f"Ebay_{split}.txt", ["image_id", "class_id", "super_class_id", "path"], skip=1)
        frames.append(
            pd.DataFrame(
                {
                    "path": [str(tree / p) for p in listed["path"]],
                    "class": listed["class_id"],
                    "category": [p.split("/")[0].removesuffix("_final") for p in listed["path"]],
                    "split": split,
                }
            )
        )
    return finish("sop", pd.concat(frames, ignore_index=True), tree, missing)


def _sop(folder: Path, content: Images) -> Path:
    half = len(content) // 2
    for split, numbers in (("train", range(half)), ("test", range(half, len(content)))):
        lines = ["image_id class_id super_class_id path"]
        for number in numbers:
            super_class = number % 2 + 1
            for i, image in enumerate(content[number]):
                name = f"{('bicycle', 'chair')[number % 2]}_final/{1100 + number}_{i}.JPG"
                save(image, folder / name)
                lines.append(f"{len(lines)} {number + 1} {super_class} {name}")
        (folder / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


LAYOUTS: Layouts = {"sop": _sop}
