"""The data sets and the settings of the lab."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["QUICK", "SETS", "SETTINGS", "DataSet"]


@dataclass(frozen=True)
class DataSet:
    """A data set of the lab, small enough for a run of a minute or so.

    Attributes:
        source: as `--data` takes it.
        options: of its reader, name and value.
        classes: so many are drawn, the same for all seeds; 0 for all.
        items: of a class at most; 0 for all. Classes of fewer than 2 are left out.
        test, validation: shares of the classes. More than a run's default of 0.1 validate, as they decide.
        batch: classes and samples.
    """

    source: str
    options: tuple[tuple[str, Any], ...] = ()
    classes: int = 0
    items: int = 0
    test: float = 0.4
    validation: float = 0.2
    batch: tuple[int, int] = (20, 3)


SETS = {
    "emoji": DataSet("emoji", classes=400),
    # Names that four icon sets or more draw.
    "iconify": DataSet("iconify", classes=400, items=8),
    # Photographs and drawings of things.
    "stamps": DataSet("stamps", items=40),
    # The 94 printable characters of ASCII in the fonts of this machine.
    "glyphs": DataSet("glyphs", (("characters", "".join(map(chr, range(33, 127)))),), items=24),
    # Ten classes: four train, three validate and three test, drawn anew by each seed.
    "fashion-mnist": DataSet("fashion-mnist", items=150, test=0.3, validation=0.3, batch=(4, 15)),
}
QUICK = DataSet("emoji", classes=40, batch=(4, 3))

Options = Mapping[str, Any]
SMALL: Options = {"batch.classes": 4, "batch.samples": 4}
MEMORY: Options = {"memory.size": 1024}
TWICE: Options = {"rate": 2}
LOSSES = ("contrastive", "triplet", "multi_similarity", "circle", "n_pair", "nt_xent", "sup_con", "proxy_anchor")
# Over distances instead of cosines, whose gradient grows where negatives, and positives, are near: PML's default.
EUCLIDEAN: Options = {
    "loss": {"name": "contrastive", "positive_margin": 0.0, "negative_margin": -1.0},
    "similarity": "negative_euclidean",
}
REMEMBERED = ("contrastive", "triplet", "multi_similarity")
# The default recipe with one thing changed.
CHANGED: Mapping[str, Options] = {
    "random_start": {"encoder.init": "random"},
    "2x": TWICE,
    "gentle": {"optimizer.backbone_scale": 0.3},
    "miner": {"miner": "multi_similarity"},
    "no_clip": {"optimizer.clip": 0},
    "one_stage": {"encoder.frozen_stages": 1},
    "dim256": {"encoder.dim": 256},
}
HALVED: Mapping[str, Options] = {
    "default": {},
    "default-plain": {"average.ema": 0, "average.blend": False, "gate": False, "against": "default"},
    "contrastive": {"loss": "contrastive"},
    "contrastive_euclidean": EUCLIDEAN,
}

PML_CONTRASTIVE: Options = {"pml.loss": {"name": "ContrastiveLoss"}}
PML_MULTI_SIMILARITY: Options = {
    "pml.loss": {"name": "MultiSimilarityLoss"},
    "pml.miner": {"name": "MultiSimilarityMiner"},
}
PML_TRIPLET: Options = {"pml.loss": {"name": "TripletMarginLoss"}}
SEMIHARD: Options = {"pml.miner": {"name": "TripletMarginMiner", "type_of_triplets": "semihard"}}
EASY: Options = {"pml.miner": {"name": "BatchEasyHardMiner", "pos_strategy": "easy", "neg_strategy": "semihard"}}
PML_MEMORY: Options = {"pml.memory": 1024}
NOTEBOOKS: Options = {"pml.optimizer": "notebooks"}

# Options of `pullpush train` by name, {} being the default recipe, and of the lab:
# against: another setting, from which the difference is taken too; rate: a multiple of the default learning rate;
# untrained: no step at all; pml.loss, pml.miner, pml.memory, pml.optimizer: PML's loop (`lab_pml.py`) instead of ours.
SETTINGS: dict[str, Options] = {
    "untrained": {"untrained": True},
    "default": {},
    **{loss: {"loss": loss} for loss in LOSSES},
    "contrastive_euclidean": EUCLIDEAN,
    **{f"default@{name}": {**options, "against": "default"} for name, options in CHANGED.items()},
    **{f"{name}@half": {**options, "rate": 0.5, "against": name} for name, options in HALVED.items()},
    **{f"{loss}+memory": {"loss": loss, **MEMORY, "against": loss} for loss in REMEMBERED},
    **{f"{loss}@16": {"loss": loss, **SMALL} for loss in REMEMBERED},
    **{f"{loss}@16+memory": {"loss": loss, **SMALL, **MEMORY, "against": f"{loss}@16"} for loss in REMEMBERED},
    **{f"{loss}@2x": {"loss": loss, **TWICE, "against": loss} for loss in REMEMBERED},
    **{f"{loss}@2x+memory": {"loss": loss, **TWICE, **MEMORY, "against": f"{loss}@2x"} for loss in REMEMBERED},
    "pml-contrastive": PML_CONTRASTIVE,
    "pml-triplet-semihard": {**PML_TRIPLET, **SEMIHARD},
    "pml-triplet-easy": {**PML_TRIPLET, **EASY},
    "pml-multi_similarity": PML_MULTI_SIMILARITY,
    "pml-circle": {"pml.loss": {"name": "CircleLoss"}},
    "pml-nt_xent": {"pml.loss": {"name": "NTXentLoss"}},
    "pml-contrastive+memory": {**PML_CONTRASTIVE, **PML_MEMORY, "against": "pml-contrastive"},
    "pml-contrastive@16": {**PML_CONTRASTIVE, **SMALL},
    "pml-contrastive@16+memory": {**PML_CONTRASTIVE, **SMALL, **PML_MEMORY, "against": "pml-contrastive@16"},
    "pml-contrastive@notebooks": {**PML_CONTRASTIVE, **NOTEBOOKS},
    "pml-multi_similarity@notebooks": {**PML_MULTI_SIMILARITY, **NOTEBOOKS},
}
