"""The order of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pullpush.progress import work
from pullpush.reports import blocks, cross_modal
from pullpush.reports.context import Block, Material
from pullpush.runs.reader import Absent, Missing


@dataclass(frozen=True)
class Section:
    """A heading with its parts; `needs` is a file without which a run has no such section.

    In `lead`, {queried} stands for what the test split is to the model.
    """

    id: str
    title: str
    lead: str
    parts: Sequence[Callable[[Material], Block]]
    needs: str = ""


SECTIONS = (
    Section(
        "descriptions",
        "Images and descriptions",
        "What descriptions find among the images of {queried}, and what images find.",
        (cross_modal.text_queries, cross_modal.image_queries, cross_modal.metrics, cross_modal.curves),
        needs="texts.parquet",
    ),
    Section(
        "retrieval",
        "Retrieval",
        "What the model finds for items of {queried}.",
        (blocks.retrieval,),
    ),
    Section(
        "mistakes",
        "Mistakes",
        "Where it goes wrong, and what it takes for what.",
        (blocks.worst, blocks.confused),
    ),
    Section(
        "training",
        "Training",
        "How the run went.",
        (blocks.loss_curves, blocks.validation_recall, blocks.learning_rate, blocks.classes_seen),
    ),
    Section(
        "classes",
        "Similarities and classes",
        "How far positives and negatives are apart, and how the classes differ.",
        (blocks.similarity, blocks.class_recall, blocks.categories),
    ),
    Section("map", "Map", "The embeddings in two dimensions.", (blocks.maps, blocks.hover_map)),
    Section("how", "How the numbers were obtained", "", (blocks.how, blocks.splits)),
    Section("setup", "Configuration and environment", "", (blocks.configuration, blocks.environment)),
)


def build(material: Material) -> list[tuple[Section, list[Block]]]:
    """Every section that has something in it, with its blocks; for what is damaged or not there, a note is left."""
    wanted = [section for section in SECTIONS if not section.needs or (material.run.path / section.needs).is_file()]
    found = []
    with work("drawing the report", sum(len(section.parts) for section in wanted), "parts") as current:
        for section in wanted:
            blocks = []
            for part in section.parts:
                blocks += [block] if (block := _block(part, material)) is not None else []
                current.advance()
            if blocks:
                lead = section.lead.format(queried=material.queried)
                found.append((replace(section, lead=lead), blocks))
    return found


def _block(part: Callable[[Material], Block], material: Material) -> Block | None:
    try:
        return part(material)
    except Absent:
        return None
    except Missing as missing:
        if str(missing) not in material.notes:
            material.notes.append(str(missing))
        return None
