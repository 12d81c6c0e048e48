"""pullpush evaluate"""

import sys
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from pullpush.cli import terminal
from pullpush.cli.compression import compressed_rows, shown_row
from pullpush.cli.items import asked, embed_readable, planned
from pullpush.cli.reranking import in_words, reranking_of, timed, tried
from pullpush.cli.retrieval import print_ways
from pullpush.errors import UserError
from pullpush.escape import printable
from pullpush.extras import need
from pullpush.files import write_text
from pullpush.progress import plan, showing

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
        between: metrics between images and texts, where there are texts and a model of both.
    """

    plain: "tuple[Evaluation, float]"
    reranked: "tuple[Evaluation, float]"
    rerank: "Rerank"
    chosen: "Chosen | None"
    votes: "Mapping[str, float]"
    enrolled: "Sequence[Mapping[str, Any]]"
    small: "Sequence[Compressed]"
    between: "Mapping[str, float]"

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        result, seconds = self.reranked
        values = {"protocol": result.protocol, "left_out": result.left_out, **result.metrics, **self.votes}
        values |= self.between
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
        if self.between:
            console.print(_between(self.between))
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
    weights: list[str] | None = None,
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
    out: str | None = None,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Measures how well a model finds: each image asks for the others of its class. Prints recall@1, MAP@R and more.

    docs/numbers.md says what they mean. The model may be one that was not trained here.

    Args:
        model: the folder of a run (runs/NAME) or of a model, or another library's model by its name, such as
            timm:resnet50 or hf:NAME (docs/models.md).
        weights: a file of weights to load into another library's model, or one of its parts.
        data: what to measure on: a folder with a sub-folder for each class, a CSV or Parquet file, the name of a data
            set, or the folder of a run for its test; by default the test of the run. Where there are texts and the
            model embeds them, text to image and image to text are measured too.
        root: the folder to which a benchmark data set (sop, cub, ...) was downloaded.
        split: which part of the data; by default the test of the run or of the data, else all of it.
        options: more options of the data set, such as '{skin_tones: true}' of emoji.
        nmi: cluster the embeddings too, which takes seconds where there are many classes; not with --rerank.
        rerank: put what is found into a better order: auto takes the way that is best on the run's validation classes;
            expand, augment, both or reciprocal the best of that kind; or say it in full, such as expand=3,augment=3
            or reciprocal=6 (docs/reranking.md).
        compression: measure smaller embeddings too, of fewer dimensions and fewer bytes (docs/small-embeddings.md).
        table: measure all ways to use the model of a run in one table (untrained, trained, with views, re-ranked,
            small): what each finds, and what it costs (docs/retrieval.md).
        views: embed each image at the scales that training has chosen (auto), or once, as it is (none).
        per_class: write a CSV with the metrics of each class to this file.
        out: write a folder with this evaluation and its report, which pullpush compare can set beside runs.
        json: print JSON instead of a table.
        quiet: print nothing but the result: neither the plan nor how far it is.

    Examples:
        pullpush evaluate runs/demo                       on the test images of the run
        pullpush evaluate runs/demo --data photos/        on other images, a folder for each class
        pullpush evaluate timm:resnet50 --data photos/    a model that was not trained here
        pullpush evaluate runs/demo --table               what each way to use the model finds and costs
        pullpush evaluate runs/demo --data emoji --split test --json
        pullpush evaluate hf:FOLDER --data photos/ --out runs/as-it-is     with a report
        pullpush evaluate runs/demo --rerank auto
        pullpush evaluate runs/demo --compression         bytes of an item against what is found
        pullpush evaluate runs/sop/model --data sop --root downloads/Stanford_Online_Products --split test
    """
    from rich.console import Console

    from pullpush.encoders import Views, load
    from pullpush.evaluation import evaluate_items
    from pullpush.evaluation.open_set import naming
    from pullpush.evaluation.texts import has_classes, with_texts
    from pullpush.runs.evaluated import check_new

    if out is not None:
        need("report")
        check_new(Path(out))
    said = {"model": model, "weights": weights, "data": data, "root": root, "split": split, "options": options}
    with showing(not quiet):
        began = perf_counter()
        loaded = load(model, weights=weights)
        if views == "none":
            loaded.views = Views()
        if table:
            if data or split or options or out:
                raise UserError("--table is of the test of a run: leave out --data, --split, --options and --out")
            print_ways(loaded, model, rerank, json)
            return
        reranking, chosen = reranking_of(rerank, loaded, model)
        items = asked(model, data, root, split, options)
        plan(*planned(loaded, model, items))
        queries, embeddings, items = embed_readable(loaded, items)
        asking = None if loaded.views.plain else queries
        described = with_texts(loaded, items, embeddings, asking)
        between = {} if described is None else described.found.metrics

        def keep(result: "Evaluation | None", votes: "Mapping[str, Any]") -> None:
            if out is not None:
                seconds = round(perf_counter() - began, 1)
                _keep(Path(out), said, items, embeddings, result, described, naming=votes, seconds=seconds)

        if described is not None and not has_classes(items):
            keep(None, {})
            print(dumps(between)) if json else Console().print(_between(between))
            return
        plain = reranked = timed(lambda: evaluate_items(embeddings, items, nmi=nmi and not reranking, queries=asking))
        if reranking:
            reranked = timed(lambda: evaluate_items(embeddings, items, nmi=False, rerank=reranking, queries=asking))
        if per_class:
            _write_per_class(reranked[0], items, per_class)
        small = compressed_rows(loaded, model, embeddings, items, asking) if compression else []
        votes = naming(embeddings, *(items.table[name].to_numpy() for name in ("label", "id")))
        keep(plain[0], votes)
        enrolled = votes.pop("identification", [])
        measured = Measured(plain, reranked, reranking, chosen, votes, enrolled, small, between)
        if json:
            print(dumps(measured.values()))
            return
    measured.show(f"{model} on {items.name}: {len(items)} items, protocol {plain[0].protocol}")


def _keep(folder: Path, *evaluated: Any, **metrics: Any) -> None:
    from pullpush.reports.layout import draw
    from pullpush.runs.evaluated import save_evaluated

    save_evaluated(folder, *evaluated, **metrics)
    page, _ = draw(folder)
    print(f"report: {page}", file=sys.stderr)


def _between(metrics: "Mapping[str, float]") -> Any:
    """A row a metric, a column a direction."""
    ways = {"text_to_image": "text to image", "image_to_text": "image to text"}
    names = dict.fromkeys(name.partition("/")[2] for name in metrics)
    rows = [{"metric": name, **{ways[way]: f"{metrics[f'{way}/{name}']:.4f}" for way in ways}} for name in names]
    return terminal.table("between images and texts", rows)


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
