"""pullpush evaluate"""

from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING, Any, Literal

from pullpush.cli import terminal
from pullpush.cli.compression import compressed_rows, shown_row
from pullpush.cli.items import asked, embed_readable
from pullpush.cli.reranking import in_words, reranking_of, timed, tried
from pullpush.cli.retrieval import print_ways
from pullpush.errors import UserError
from pullpush.escape import printable
from pullpush.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pullpush.data.items import Items
    from pullpush.evaluation import Chosen, Compressed, Evaluation, Rerank

__all__ = ["evaluate"]


@dataclass(frozen=True)
class Measured:
    """What `evaluate` measured.

    Attributes:
        plain: without re-ranking, and the seconds of its ranking.
        reranked: with it, and the seconds; the same where nothing is re-ranked.
        rerank: what was done.
        chosen: how that was chosen, where it was.
        votes: accuracy of the classes that the nearest vote for, by name.
        enrolled: few-shot accuracy and identification, a row a number of enrolled images.
        small: of smaller embeddings.
    """

    plain: "tuple[Evaluation, float]"
    reranked: "tuple[Evaluation, float]"
    rerank: "Rerank"
    chosen: "Chosen | None"
    votes: "Mapping[str, float]"
    enrolled: "Sequence[Mapping[str, Any]]"
    small: "Sequence[Compressed]"

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        result, seconds = self.reranked
        values = {"protocol": result.protocol, "left_out": result.left_out, **result.metrics, **self.votes}
        values["identification"] = self.enrolled
        if self.small:
            values["compression"] = [each.values() for each in self.small]
        if self.rerank or self.chosen:
            without, seconds_without = self.plain
            values["rerank"] = {
                "options": str(self.rerank),
                "seconds": seconds,
                "seconds_without": seconds_without,
                "without": without.metrics,
                "chosen_on": self.chosen and tried(self.chosen),
            }
        return values

    def show(self, title: str) -> None:
        """Tables and notes on the terminal."""
        from rich.console import Console

        result, seconds = self.reranked
        console, seconds_without = Console(), self.plain[1]
        console.print(terminal.table(title, self._rows()))
        if self.enrolled:
            title = "shots: images of a class that are enrolled, the others ask who they are"
            console.print(terminal.table(title, map(_enrolled_row, self.enrolled)))
        if self.small:
            title = "smaller embeddings: bytes of an item, and what is found"
            console.print(terminal.table(title, map(shown_row, self.small)))
        left_out = [f"{result.left_out} queries without a positive left out"] if result.left_out else []
        for note in (*left_out, *result.notes, *in_words(self.chosen)):
            print(printable(note))
        if self.rerank:
            print(f"ranking took {seconds:.1f} s, {seconds_without:.1f} s without")

    def _rows(self) -> list[dict[str, str]]:
        """A row a metric; those that re-ranking does not change have one value."""
        after = {name: f"{value:.4f}" for name, value in self.reranked[0].metrics.items()}
        votes = {name: f"{value:.4f}" for name, value in self.votes.items()}
        if not self.rerank:
            return [{"metric": name, "value": value} for name, value in (after | votes).items()]
        before = {name: f"{value:.4f}" for name, value in self.plain[0].metrics.items()} | votes
        return [{"metric": n, "before": before[n], "re-ranked": after.get(n, "")} for n in after | votes]


def evaluate(
    model: str,
    *,
    data: str | None = None,
    root: str | None = None,
    split: Literal["", "train", "validation", "test"] = "",
    options: dict[str, Any] | None = None,
    nmi: bool = True,
    rerank: str = "none",
    compression: bool = False,
    table: bool = False,
    views: Literal["auto", "none"] = "auto",
    per_class: str | None = None,
    json: bool = False,
) -> None:
    """Retrieval metrics of a run or model.

    Args:
        model: a run folder or a model folder.
        data: a name, a folder of classes, or a manifest; by default what the run was trained and tested on.
        root: folder of the download, for the benchmark data sets.
        split: train, validation or test; by default the test split of the run or of the data, else all items.
        options: further options of the reader.
        nmi: cluster the embeddings too, where the ranking is as it is.
        rerank: none; auto, the best on the run's validation classes, or the best of one method there: expand, augment,
            both, reciprocal; or what to do, such as expand=3,augment=3 or reciprocal=6 (docs/reranking.md).
        compression: what smaller embeddings find too: fewer dimensions, and fewer bytes for each
            (docs/small-embeddings.md).
        table: of a run, all ways to use its model in one table: untrained, trained, with views, re-ranked, small; what
            they find on its test, and what they cost (docs/retrieval.md).
        views: the test views of the model (auto), or images as they are.
        per_class: write a CSV with the metrics of each class to this file.
        json: print JSON instead of a table.

    Examples:
        pullpush evaluate runs/demo                     the test split of the run
        pullpush evaluate runs/demo --data emoji --split test
        pullpush evaluate runs/demo --data photos/ --json
        pullpush evaluate runs/demo --rerank auto
        pullpush evaluate runs/demo --compression       bytes of an item against what is found
        pullpush evaluate runs/demo --table             what each way to use the model finds and costs
        pullpush evaluate runs/sop/model --data sop --root downloads/Stanford_Online_Products --split test
    """
    from pullpush.encoders import Views, load
    from pullpush.evaluation import evaluate_items
    from pullpush.evaluation.open_set import naming

    loaded = load(model)
    if views == "none":
        loaded.views = Views()
    if table:
        if data or split or options:
            raise UserError("--table is of the test of a run: leave out --data, --split and --options")
        print_ways(loaded, model, rerank, json)
        return
    reranking, chosen = reranking_of(rerank, loaded, model)
    queries, embeddings, items = embed_readable(loaded, asked(model, data, root, split, options))
    asking = None if loaded.views.plain else queries
    plain = reranked = timed(lambda: evaluate_items(embeddings, items, nmi=nmi and not reranking, queries=asking))
    if reranking:
        reranked = timed(lambda: evaluate_items(embeddings, items, nmi=False, rerank=reranking, queries=asking))
    if per_class:
        _write_per_class(reranked[0], items, per_class)
    small = compressed_rows(loaded, model, embeddings, items, asking) if compression else []
    votes = naming(embeddings, *(items.table[name].to_numpy() for name in ("label", "id")))
    enrolled = votes.pop("identification", [])
    measured = Measured(plain, reranked, reranking, chosen, votes, enrolled, small)
    if json:
        print(dumps(measured.values()))
        return
    measured.show(f"{model} on {items.name}: {len(items)} items, protocol {plain[0].protocol}")


def _write_per_class(result: "Evaluation", items: "Items", path: str) -> None:
    frame = result.per_class.copy()
    frame.insert(0, "class", [items.classes[label] for label in frame.index])
    write_text(path, frame.to_csv(), "or choose another --per_class")


def _enrolled_row(measured: "Mapping[str, Any]") -> dict[str, Any]:
    """A row of the table of identification: rates with their intervals."""
    names = [name for name in measured if f"{name}/interval" in measured]
    row: dict[str, Any] = {name: measured[name] for name in ("shots", "classes")}
    for name in names:
        value, (low, high) = measured[name], measured[f"{name}/interval"]
        row[name] = "-" if value is None else f"{value:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
    return row
