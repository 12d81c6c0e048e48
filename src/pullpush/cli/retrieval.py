"""What `pullpush evaluate --table` measures."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullpush.cli.reranking import in_words, reranking_of
from pullpush.cli.terminal import table
from pullpush.errors import UserError
from pullpush.escape import printable

if TYPE_CHECKING:
    from pullpush.encoders.model import Model

__all__ = ["print_ways"]


def print_ways(model: "Model", folder: str, wanted: str, json: bool) -> None:
    """The table of what the model of a run finds in each way that it can be used.

    Args:
        model: of the run.
        folder: of the run.
        wanted: of `--rerank`.
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
        rerank, chosen = reranking_of(wanted, model, folder)
    elif "rerank" not in or_else(lambda: run.metrics, {}) and validation:  # of an earlier version
        rerank, chosen = reranking_of("auto", model, folder)
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
