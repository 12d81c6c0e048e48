"""pullpush data"""

from typing import TYPE_CHECKING, Any

from pullpush.bounds import Seed
from pullpush.cli.terminal import plain, table
from pullpush.data.readers import PLACES
from pullpush.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from pullpush.data.check import Summary
    from pullpush.data.items import Items

__all__ = ["data"]


def data(
    data: str,
    *,
    root: str | None = None,
    options: dict[str, Any] | None = None,
    look: bool = True,
    make: str | None = None,
    split: bool = True,
    seed: Seed = 0,
) -> None:
    """Shows what is in a data set before anything is trained: problems first, then classes, splits, formats and sizes.

    Args:
        data: a folder with a sub-folder for each class, a CSV or Parquet file, or a name: {names}.
        root: the folder to which a benchmark data set (sop, cub, ...) was downloaded.
        options: more options of the data set, such as '{skin_tones: true}' of emoji.
        look: open every image, to find those that cannot be read.
        make: instead, write a small data set of that name to this new folder, to try things out.
        split: show which classes a run with this seed would train on, and which it would be tested on.
        seed: the seed of that split.

    Examples:
        pullpush data photos/
        pullpush data emoji                        the built-in data
        pullpush data sop --root downloads/sop     its counts beside the published ones
        pullpush data sop --make small/sop         a small tree in that layout, to try things out
    """
    from pullpush.data.check import inspect, summary
    from pullpush.data.sources import compare_with_published, open_items
    from pullpush.data.splits import split_by_class
    from pullpush.data.synthetic import make_tree

    if make:
        print(f"a small tree in the layout of {data}: {make_tree(data, make, seed=seed)}")
        return
    items = open_items(data, root=root, **(options or {}))
    published = compare_with_published(items)
    trouble = ""
    if split:
        try:
            items = split_by_class(items, seed=seed)
        except UserError as error:
            trouble = str(error)
    _show(items, summary(items, inspect(items) if look else None), trouble, published)


def _show(items: "Items", summary: "Summary", trouble: str, published: "pd.DataFrame | None") -> None:
    """Problems first, then notes and tables."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(plain(items.name, style="bold"), end="")
    console.print(f": {len(items)} items, {items.table['label'].nunique()} classes", markup=False)
    problems = [*filter(None, [trouble]), *summary.problems]
    for problem in problems:
        console.print("  [bold red]![/] ", end="")
        console.print(plain(problem))
    if not problems:
        console.print("  no problems found")
    for note in summary.notes:
        console.print(plain(f"  {note}"))
    for title, frame in (
        ("against the published numbers", published),
        ("splits", summary.splits),
        ("formats", summary.formats),
        ("sizes of the images", summary.pixels),
        ("sizes of the classes", summary.sizes),
        ("a few items", summary.examples),
    ):
        if frame is not None and len(frame):
            console.print(table(title, frame.to_dict("records")))


data.__doc__ = (data.__doc__ or "").replace("{names}", ", ".join(PLACES))
