"""Stanford Online Products (Song et al. 2016, Deep Metric Learning via Lifted Structured Feature Embedding)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pullpush.data.benchmarks import find_tree, finish, read_list
from pullpush.data.items import Items
from pullpush.data.readers import Missing

EXPECTED = {"train": {"images": 59551, "classes": 11318}, "test": {"images": 60502, "classes": 11316}}


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
