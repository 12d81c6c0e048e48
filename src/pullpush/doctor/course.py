"""Findings in how a run went: its updates, its memory, its validation."""

from pullpush.doctor.finding import Finding, Measures, Objective

__all__ = ["learning_rate_too_high", "over_fitting", "stale_memory"]

# Update of the weights in one step as a share of their length.
LARGE_UPDATE = 0.2
# Length of the weights compared with the first step: updates that point here and there make them longer.
LARGE_GROWTH = 3.0
# Mean squared change of embeddings while they lie in the memory, as a share of the squared distance of unrelated
# items, at two looks one after the other.
LARGE_DRIFT = 0.8
# Fall of recall@1, and its standard error above which nothing is said: too few classes.
DROP, ROUGH = 0.05, 0.15


def learning_rate_too_high(m: Measures, o: Objective) -> Finding | None:
    """The weights are changed by a large share in each step: what was learned is overwritten."""
    if m["largest_update_ratio"] > LARGE_UPDATE or m["weight_growth"] > LARGE_GROWTH:
        evidence = {"update_over_weights": m["largest_update_ratio"], "weight_growth": m["weight_growth"]}
        evidence |= {name: m[name] for name in ("gradient_norm", "first_loss", "loss") if name in m}
        lr = 5e-4 if o.lr is None else min(1e-3, o.lr / 10)
        return Finding("learning_rate_too_high", "warning", evidence, f"--optimizer.lr {lr:.0e}")
    return None


def stale_memory(m: Measures, o: Objective) -> Finding | None:
    """What lies in the memory is no longer where the encoder would put it."""
    if m["lasting_drift"] > LARGE_DRIFT:
        start = max(o.start_step, m["step"]) + m["memory_age"]
        evidence = {
            name: m[name] for name in ("lasting_drift", "memory_drift", "memory_age", "memory_oldest") if name in m
        }
        return Finding(
            "stale_memory", "warning", evidence,
            f"--memory.start_step {start:.0f}: embeddings drift fast at first; or a smaller --memory.size, whose "
            "content is younger.",
        )  # fmt: skip
    return None


def over_fitting(m: Measures, o: Objective) -> Finding | None:
    """Retrieval on training classes still rises while that on validation classes falls."""
    drop = m["best_validation_recall"] - m["validation_recall"]
    falls = drop > max(DROP, m["validation_error"]) and not m["validation_error"] > ROUGH
    if falls and m["training_recall"] >= m["training_recall_at_best"]:
        evidence = {
            name: m[name]
            for name in ("training_recall", "training_recall_at_best", "validation_recall", "best_validation_recall",
                         "best_validation_step")
        }  # fmt: skip
        return Finding(
            "over_fitting", "warning", evidence,
            f"--steps {m['best_validation_step']:.0f}, --encoder.augment true, more --encoder.frozen_stages, or a "
            "lower --optimizer.lr. The weights of the best validation are the ones that are kept.",
        )  # fmt: skip
    return None
