"""Image to text and text to image."""

from dataclasses import dataclass, replace
from typing import Any

from pullpush.evaluation.evaluate import Evaluation, evaluate
from pullpush.evaluation.metrics import METRICS, metric_of
from pullpush.notebook import table

__all__ = ["KS", "NEAREST", "CrossModal", "evaluate_image_text"]

KS = (1, 5, 10)
NEAREST = [metric for metric in METRICS.values() if metric.nearest_alone]


@dataclass(frozen=True)
class CrossModal:
    """Both directions.

    Attributes:
        metrics: `image_to_text/recall@1`, ..., `text_to_image/median_rank`, `text_to_image/mean_rank`.
        image_to_text: images as queries, texts as gallery; `.neighbours.indices` are rows of the texts.
        text_to_image: texts as queries, images as gallery.
        images: images among themselves, where that was evaluated too (`with_images`).
    """

    metrics: dict[str, float]
    image_to_text: Evaluation
    text_to_image: Evaluation
    images: Evaluation | None = None

    def with_images(self, images: Evaluation) -> "CrossModal":
        """The same, with what images find among themselves; its metrics keep their names."""
        return replace(self, metrics=self.metrics | images.metrics, images=images)

    def _repr_html_(self) -> str:
        return table([{"metric": name, "value": float(value)} for name, value in self.metrics.items()])

    def __repr__(self) -> str:
        firsts = dict.fromkeys(next(n for n in self.metrics if n.startswith(way)) for way in ("image", "text"))
        return f"CrossModal({', '.join(f'{name}={self.metrics[name]:.4f}' for name in firsts)})"


def evaluate_image_text(
    images: Any,
    image_labels: Any,
    texts: Any,
    text_labels: Any,
    *,
    queries: Any = None,
    ks: tuple[int, ...] = KS,
    neighbours: int = 10,
    similarity: str = "cosine",
) -> CrossModal:
    """Recall@k, median and mean rank of the nearest match, both ways.

    An image and a text match where their labels are equal: several texts an image and several images a text are several
    positives, of which the nearest counts. Ties never help, as in `evaluate`: a rank is the expected rank among the
    tied, so a collapsed model has the ranks of random order. Queries without a match are left out and counted in
    `.image_to_text.left_out` and `.text_to_image.left_out`.

    Args:
        images: `[n, dim]`, numpy or torch.
        image_labels: int `[n]`: the item or concept that an image shows.
        texts: `[m, dim]`, a row a text (a text that occurs twice may be two rows).
        text_labels: int `[m]`: the item or concept that a text describes.
        queries: `[n, dim]`, the embeddings of the same images as queries, where these are others (test views).
        ks: recall@k for these.
        neighbours: how many nearest of the other kind to return.
        similarity: `cosine`, `dot` or `euclidean`.

    Raises:
        UserError: as `evaluate` does.
    """

    def one_way(queries: Any, labels: Any, gallery: Any, gallery_labels: Any) -> Evaluation:
        return evaluate(
            queries,
            labels,
            gallery=gallery,
            gallery_labels=gallery_labels,
            ks=ks,
            nmi=False,
            neighbours=neighbours,
            similarity=similarity,
        )

    ways = {
        "image_to_text": one_way(images if queries is None else queries, image_labels, texts, text_labels),
        "text_to_image": one_way(texts, text_labels, images, image_labels),
    }
    metrics: dict[str, float] = {}
    for way, result in ways.items():
        metrics |= {f"{way}/{name}": value for name, value in result.metrics.items() if metric_of(name) in NEAREST}
        rank = result.per_query["rank"]  # NaN where there is no match, which median and mean pass over
        metrics |= {f"{way}/median_rank": float(rank.median()), f"{way}/mean_rank": float(rank.mean())}
    return CrossModal(metrics, **ways)
