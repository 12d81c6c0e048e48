"""In-shop Clothes Retrieval (Liu et al. 2016, DeepFashion)."""

from pathlib import Path

import numpy as np

from pullpush.data.benchmarks import Images, find_tree, finish, halves, read_list, save_images, write_list
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.errors import UserError

__all__ = ["LAYOUTS", "PUBLISHED", "read_inshop"]

PUBLISHED = {
    "inshop": {
        "train": {"images": 25882, "classes": 3997},
        "query": {"images": 14218, "classes": 3985},
        "gallery": {"images": 12612, "classes": 3985},
    }
}
_LIST = "list_eval_partition.txt"


def read_inshop(*, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """`list_eval_partition.txt` (image_name item_id evaluation_status, after two heading lines), in `Eval`, `Anno` or
    the folder.

    `train` is training; `query` and `gallery` are the test with these roles. Images lie in `img/` or `Img/img/`.
    `category` is the part of the path before the item (`WOMEN/Dresses`).

    Args:
        root: The folder of the benchmark.
        missing: `error`, or `skip` to go on without listed images that do not exist.
    """
    place = find_tree(root, "In-shop Clothes Retrieval", ["Eval", "Anno"], _LIST)
    listed = read_list(place / _LIST, ["image_name", "item_id", "evaluation_status"], skip=2)
    strange = sorted(set(listed["evaluation_status"]) - {"train", "query", "gallery"})
    if strange:
        raise UserError(f"{place / _LIST}: evaluation_status {strange[0]!r} is unknown; it is train, query or gallery")
    tree = Path(str(root))
    names, status = listed["image_name"], listed["evaluation_status"]
    return finish(
        "inshop",
        tree / "Img" if (tree / "Img" / "img").is_dir() else tree,
        missing,
        names,
        listed["item_id"],
        category=["/".join(name.split("/")[1:-2]) for name in names],
        split=np.where(status == "train", "train", "test"),
        role=status.replace("train", "both"),
    )


def _inshop(folder: Path, content: Images) -> Path:
    def place(label: int, i: int) -> str:
        return f"img/WOMEN/{('Dresses', 'Shorts')[label % 2]}/id_{label + 1:08d}/{i + 1:02d}_1_front.jpg"

    rows = []
    for split, part in halves(save_images(folder / "Img", content, place)).items():
        status = ("train", "train") if split == "train" else ("query", "gallery")
        rows += [(f"{name:<70}", f"id_{label + 1:08d}", status[i % 2]) for label, i, name in part]
    write_list(folder / "Eval" / _LIST, rows, str(len(rows)), "image_name item_id evaluation_status")
    return folder


LAYOUTS = {"inshop": _inshop}
