"""The order of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pullpush.reports import parts
from pullpush.reports.material import Block, Material
from pullpush.reports.run import Missing


@dataclass(frozen=True)
class Section:
    """A heading with its parts."""

    id: str
    title: str
    lead: str
    parts: Sequence[Callable[[Material], Block]]


SECTIONS = (
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
    return [(section, [_block(part, material) for part in section.parts]) for section in SECTIONS]


def _block(part: Callable[[Material], Block], material: Material) -> Block:
    try:
        return part(material)
    except Missing as missing:
        return Block(missing=str(missing))
