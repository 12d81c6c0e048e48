"""Stanford Online Products (Song et al. 2016, Deep Metric Learning via Lifted Structured Feature Embedding)."""

from pathlib import Path

import pandas as pd

from pullpush.data.benchmarks import Images, find_tree, finish, halves, read_list, save_images, write_list
from pullpush.data.items import Items
from pullpush.data.readers import Missing

__all__ = ["LAYOUTS", "PUBLISHED", "read_sop"]

PUBLISHED = {"sop": {"train": {"images": 59551, "classes": 11318}, "test": {"images": 60502, "classes": 11316}}}


def read_sop(*, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """`Ebay_train.txt` and `Ebay_test.txt` (image_id class_id super_class_id path, one heading line), images beside
    them.

    The class is `class_id`; `category` is the super class, by the name of its folder (`bicycle_final` gives `bicycle`).

    Args:
        root: The folder, or the one above its `Stanford_Online_Products`.
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    tree = find_tree(root, "Stanford Online Products", ["Stanford_Online_Products"], "Ebay_train.txt")
    columns = ["image_id", "class_id", "super_class_id", "path"]
    lists = [read_list(tree / f"Ebay_{split}.txt", columns, skip=1).assign(split=split) for split in ("train", "test")]
    listed = pd.concat(lists, ignore_index=True)
    category = [path.split("/")[0].removesuffix("_final") for path in listed["path"]]
    return finish("sop", tree, missing, listed["path"], listed["class_id"], category=category, split=listed["split"])


def _sop(folder: Path, content: Images) -> Path:
    names = ("bicycle", "chair")
    written = save_images(folder, content, lambda label, i: f"{names[label % 2]}_final/{1100 + label}_{i}.JPG")
    for split, part in halves(written).items():
        rows = [(row, label + 1, label % 2 + 1, place) for row, (label, _, place) in enumerate(part, 1)]
        write_list(folder / f"Ebay_{split}.txt", rows, "image_id class_id super_class_id path")
    return folder


LAYOUTS = {"sop": _sop}
