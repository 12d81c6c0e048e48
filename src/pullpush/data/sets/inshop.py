"""In-shop Clothes Retrieval (Liu et al. 2016, DeepFashion)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pullpush.data.benchmarks import Images, Layouts, Published, find_tree, finish, read_list, save
from pullpush.data.items import Items
from pullpush.data.readers import Missing
from pullpush.errors import UserError

__all__ = ["LAYOUTS", "PUBLISHED", "read_inshop"]

PUBLISHED: Published = {
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
    images = tree / "Img" if (tree / "Img" / "img").is_dir() else tree
    train = listed["evaluation_status"] == "train"
    frame = pd.DataFrame(
        {
            "path": [str(images / name) for name in listed["image_name"]],
            "class": listed["item_id"],
            "category": ["/".join(name.split("/")[1:-2]) for name in listed["image_name"]],
            "split": train.map({True: "train", False: "test"}),
            "role": listed["evaluation_status"].where(~train, "both"),
        }
    )
    return finish("inshop", frame, tree, missing)


def _inshop(folder: Path, content: Images) -> Path:
    rows = []
    for number, images in enumerate(content):
        for i, image in enumerate(images):
            name = f"img/WOMEN/{('Dresses', 'Shorts')[number % 2]}/id_{number + 1:08d}/{i + 1:02d}_1_front.jpg"
            save(image, folder / "Img" / name)
            status = "train" if number < len(content) // 2 else ("query", "gallery")[i % 2]
            rows.append(f"{name:<70} id_{number + 1:08d} {status}")
    (folder / "Eval").mkdir()
    text = "\n".join([str(len(rows)), "image_name item_id evaluation_status", *rows])
    (folder / "Eval" / "list_eval_partition.txt").write_text(text + "\n")
    return folder


LAYOUTS: Layouts = {"inshop": _inshop}
