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
    """A table of what is in a data set, problems first.

    Args:
        data: a name, a folder of classes, or a manifest.
        root: folder of the download, for the benchmark data sets.
        options: further options of the reader, such as '{skin_tones: true}'.
        look: decode every image.
        make: write a small tree in the layout `data` with real images to this new folder instead.
        split: show the splits that a run with this seed would make.
        seed: of the splits.

    Examples:
        pullpush data emoji
        pullpush data photos/
        pullpush data sop --root downloads/sop     counts against the published numbers
        pullpush data sop --make small/sop         a small tree in that layout, to try things out
        Names: {names}
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
