"""The folder of an evaluation: what a run folder holds of its test, of a model that was not trained there.

The report and the comparison read it as they read a run: all items are its test split, embedded "after". `evaluated` in
metrics.json names the model; config.yaml holds the options of the command.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import CrossModal, Evaluation
from pullpush.evaluation.texts import Described
from pullpush.files import write_json, write_text
from pullpush.runs.folder import THEN, environment, save_embeddings, save_tables
from pullpush.runs.neighbours import save_neighbours
from pullpush.runs.reader import RunFolder
from pullpush.runs.verified import verification_values

__all__ = ["check_new", "save_evaluated"]


def check_new(folder: Path) -> None:
    """Raises `UserError` where there is something in a folder that is to be written."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{str(folder)!r} exists: choose another --out")


def save_evaluated(
    folder: Path,
    options: Mapping[str, Any],
    items: Items,
    embeddings: NDArray[np.float32],
    evaluation: Evaluation | None,
    described: Described | None = None,
    **metrics: Any,
) -> None:
    """Writes the folder, metrics.json last.

    Args:
        folder: new, or empty.
        options: what repeats it, with `model`.
        items: that were evaluated.
        embeddings: `[n, dim]`, a row an item.
        evaluation: what images find among themselves; None where no class has two.
        described: what was found between images and texts.
        metrics: further values of metrics.json.

    Raises:
        UserError: it exists, or can't be written.
    """
    check_new(folder)
    tested = items.assign(split="test")
    texts = None if described is None else described.texts.assign(split="test")
    write_text(folder / "config.yaml", yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True), THEN)
    write_json(folder / "environment.json", environment(), THEN)
    save_tables(folder, tested, texts)
    found: Evaluation | CrossModal | None = evaluation
    embedded = {"image": torch.from_numpy(embeddings)}
    if described is not None:
        embedded["text"] = torch.from_numpy(described.embeddings)
        found = described.found if evaluation is None else described.found.with_images(evaluation)
    save_embeddings(folder, "test-after", embedded)
    if found is not None:
        save_neighbours(folder, "test-after", found)
    values = {
        "evaluated": options["model"],
        "data": items.name,
        "test_classes": "not known",
        "test": {"after": {} if found is None else dict(found.metrics)},
        "verification": verification_values(RunFolder(folder), None) if evaluation is not None else {},
        **metrics,
    }
    write_json(folder / "metrics.json", values, THEN)
