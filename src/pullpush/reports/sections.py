"""The order of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pullpush.reports import cross_modal, parts
from pullpush.reports.material import Block, Material
from pullpush.reports.run import Missing


@dataclass(frozen=True)
class Section:
    """A heading with its parts; `needs` is a file without which a run has no such section."""

    id: str
    title: str
    lead: str
    parts: Sequence[Callable[[Material], Block]]
    needs: str = ""


SECTIONS = (
    Section(
        "descriptions",
        "Images and descriptions",
        "What descriptions find among the images of classes that the model has never seen, and what images find.",
        (cross_modal.text_queries, cross_modal.image_queries, cross_modal.metrics, cross_modal.curves),
        needs="texts.parquet",
    ),
    Section(
        "retrieval",
        "Retrieval",
        "What the model finds for items of classes that it has never seen.",
        (parts.retrieval,),
    ),
    Section(
        "mistakes",
        "Mistakes",
        "Where it goes wrong, and what it takes for what.",
        (parts.worst, parts.confused),
    ),
    Section(
        "training",
        "Training",
        "How the run went.",
        (parts.loss_curves, parts.validation_recall, parts.learning_rate, parts.classes_seen),
    ),
    Section(
        "classes",
        "Similarities and classes",
        "How far positives and negatives are apart, and whether all classes gain.",
        (parts.similarity, parts.class_recall, parts.categories),
    ),
    Section("map", "Map", "The embeddings in two dimensions.", (parts.maps, parts.hover_map)),
    Section("how", "How the numbers were obtained", "", (parts.how, parts.splits)),
    Section("setup", "Configuration and environment", "", (parts.configuration, parts.environment)),
)


def build(material: Material) -> list[tuple[Section, list[Block]]]:
    """Every section with its blocks; a part that is missing becomes its sentence."""
    wanted = [section for section in SECTIONS if not section.needs or (material.run.path / section.needs).is_file()]
    return [(section, [_block(part, material) for part in section.parts]) for section in wanted]


def _block(part: Callable[[Material], Block], material: Material) -> Block:
    try:
        return part(material)
    except Missing as missing:
        return Block(missing=str(missing))
