"""What `pullpush evaluate --table` measures."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullpush.cli.reranking import in_words
from pullpush.cli.terminal import table
from pullpush.errors import UserError
from pullpush.escape import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pullpush.encoders.model import Model
    from pullpush.encoders.rerank import Rerank
    from pullpush.evaluation import Chosen

__all__ = ["print_ways"]


def print_ways(
    model: "Model", folder: str, wanted: str, choose: "Callable[[str], tuple[Rerank, Chosen | None]]", json: bool
) -> None:
    """The table of what the model of a run finds in each way that it can be used.

    Args:
        model: of the run.
        folder: of the run.
        wanted: of `--rerank`.
        choose: what is wanted, and how it was chosen on the validation classes.
        json: print JSON instead.

    Raises:
        UserError: it is no run folder, or lacks the embeddings of its test.
    """
    from rich.console import Console

    from pullpush.evaluation.retrieval import shown
    from pullpush.runs.reader import Missing, RunFolder, or_else
    from pullpush.runs.retrieval import ways_of

    path = Path(folder)
    if not (path / "items.parquet").is_file():
        raise UserError(f"{folder!r} is the folder of a model; --table needs that of a run, with its test")
    run = RunFolder(path)
    rerank, chosen = model.rerank, None
    validation = or_else(lambda: len(run.split("validation")), 0)
    if wanted != "none":
        rerank, chosen = choose(wanted)
    elif "rerank" not in or_else(lambda: run.metrics, {}) and validation:  # of an earlier version
        rerank, chosen = choose("auto")
    try:
        rows = [way.values() for way in ways_of(run, model, rerank)]
    except Missing as missing:
        raise UserError(f"{folder!r} has no such table: {missing}") from None
    if json:
        said: dict[str, Any] = {"options": str(rerank), "validation": chosen and chosen.values()}
        print(dumps({"retrieval": rows, "rerank": said, "views": model.views.values()}))
        return
    Console().print(table(f"{folder}: what is found, and what it costs", map(shown, rows)))
    for note in in_words(chosen) or [f"re-ranked: {rerank}"]:
        print(printable(note))
