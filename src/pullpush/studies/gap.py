"""Does the miner explain the gap between training and validation loss? Answered from the logs, or not at all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.maths import losses
from pullpush.studies.plan import StudyRun
from pullpush.studies.spread import spread
from pullpush.studies.table import log_of

__all__ = ["gaps_of", "open_question"]

# Steps at the end of a run over which its training loss is averaged.
LAST = 50
# Losses of the last validation, by their names here.
VALIDATION = {"with_miner": "loss_miner", "without_miner": "loss_no_miner", "all_pairs": "loss_all"}


def gaps_of(runs: Sequence[StudyRun], out: Path) -> pd.DataFrame:
    """A row a run: its losses at the end, and the standard error of the training loss over its last steps."""
    return pd.DataFrame([_gap(run, out) for run in runs])


def _gap(run: StudyRun, out: Path) -> dict[str, object]:
    training = pd.Series(log_of(run, out, "train/loss").values[-LAST:])
    validation = {name: log_of(run, out, f"validation/{key}").values for name, key in VALIDATION.items()}
    return {
        **run.facts,
        "miner": run.config.miner is not None,
        "training": training.mean(),
        "training_error": training.sem(),
        **{name: values[-1] if len(values) else np.nan for name, values in validation.items()},
    }


def open_question(gaps: pd.DataFrame) -> list[str]:
    """A sentence or two a loss; none for a loss without a miner or without these losses, as it has no answer.

        gap = V_without - T,   share = (V_without - V_with) / gap

    of the means over seeds. The gap is within noise where it is below two standard errors of the training loss, or
    where the gaps of the seeds (from four on, the interval of their mean) lie on both sides of 0.
    """
    sentences = []
    for name, part in gaps.groupby("loss", sort=False):
        known = part.dropna(subset=["training", "with_miner", "without_miner"])
        if len(known) and known["miner"].all():
            sentences.append(f"{name}: {_levels(known)}; {_verdict(known)}.")
        elif str(name) in losses.REGISTRY and losses.REGISTRY[str(name)]().traits.proxies:
            sentences.append(f"{name} compares with proxies of training classes and has no loss on others.")
    return sentences if any(": " in sentence for sentence in sentences) else []


def _levels(part: pd.DataFrame) -> str:
    t, mined, plain, every = (part[k].mean() for k in ("training", "with_miner", "without_miner", "all_pairs"))
    all_pairs = "" if np.isnan(every) else f", over all pairs {every:.3f}"
    validation = f"with the miner {mined:.3f}, without it on the same batches {plain:.3f}{all_pairs}"
    return f"training {t:.3f}; validation {validation}"


def _verdict(part: pd.DataFrame) -> str:
    gaps, left = part["without_miner"] - part["training"], part["with_miner"] - part["training"]
    gap, rest = gaps.mean(), left.mean()
    error = part["training_error"].fillna(0.0).mean() / len(part) ** 0.5
    if _is_noise(gaps, error):
        beside = "" if _is_noise(left, error) else f", and with it validation is {_apart(rest)} training"
        return f"without the miner there is no gap to explain, beyond noise{beside}"
    sentence = f"without the miner validation is {_apart(gap)} training, with it"
    share = (gap - rest) / gap
    if _is_noise(left, error):
        return f"{sentence} no more apart than noise: the missing miner explains the gap"
    sentence += f" {_apart(rest)}"
    if share > 1:
        return f"{sentence}, on the other side: the miner changes more than the gap"
    if share < 0:
        return f"{sentence}: the missing miner does not explain the gap, which is wider with it"
    if share < 0.1:
        return f"{sentence}: the missing miner does not explain the gap"
    return (
        f"{sentence}: the missing miner explains {'most' if share > 0.5 else 'a part'} of the gap, {100 * share:.0f}%"
    )


def _is_noise(gaps: pd.Series, error: float) -> bool:
    mean_gap = spread(gaps, -np.inf)
    return abs(mean_gap.mean) <= 2 * error or (len(gaps) > 1 and mean_gap.low <= 0 <= mean_gap.high)


def _apart(value: float) -> str:
    return f"{abs(value):.3f} {'above' if value > 0 else 'below'}"
