"""Findings in how a run went: its updates, its memory, its validation."""

from pullpush.doctor.advice import Cure, advise, lower_rate
from pullpush.doctor.finding import Finding, Measures, Objective
from pullpush.doctor.measure import RESULTS, WHEN

__all__ = ["learning_rate_too_high", "over_fitting", "stale_memory", "worse_than_start"]

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
        lower = lower_rate(o, most=1e-3) or {"optimizer.lr": 5e-4}
        return Finding("learning_rate_too_high", "warning", evidence, advise(o, Cure("{}", lower)))
    return None


def stale_memory(m: Measures, o: Objective) -> Finding | None:
    """What lies in the memory is no longer where the encoder would put it."""
    if m["lasting_drift"] > LARGE_DRIFT:
        start = round(max(o.run.get("memory.start_step", 0), m["step"]) + m["memory_age"])
        size, scale = o.run.get("memory.size"), o.run.get("optimizer.backbone_scale", 1.0)
        evidence = {
            name: m[name] for name in ("lasting_drift", "memory_drift", "memory_age", "memory_oldest") if name in m
        }
        cures = [
            Cure("{}, as embeddings drift fast at first", {"memory.start_step": start}),
            Cure("a smaller memory, whose content is younger: {}", {"memory.size": size / 2 if size else 1024}),
            # The backbone first: its rate is what moves embeddings.
            Cure("a slower backbone: {}", {"optimizer.backbone_scale": float(f"{scale / 10:.0e}")}),
            Cure("a lower learning rate: {}", lower_rate(o)),
        ]
        return Finding("stale_memory", "warning", evidence, advise(o, *cures))
    return None


def over_fitting(m: Measures, o: Objective) -> Finding | None:
    """Retrieval on training classes still rises while that on validation classes falls."""
    drop = m["best_validation_recall"] - m["validation_recall"]
    falls = drop > max(DROP, m["validation_error"]) and not m["validation_error"] > ROUGH
    if falls and m["training_recall"] >= m["training_recall_at_best"]:
        evidence = {
            name: m[name]
            for name in (
                "training_recall",
                "training_recall_at_best",
                "validation_recall",
                "best_validation_recall",
                "best_validation_step",
                "kept_step",
            )
            if name in m
        }
        stages = o.run.get("encoder.frozen_stages", 0) + 1
        cures = [
            Cure("{}", {"steps": int(m["best_validation_step"])}),
            Cure("{}", {"encoder.augment": True}),
            Cure("{}", {"encoder.frozen_stages": stages}),
            Cure("a smaller head: {}", {"encoder.head": "linear"}),
            Cure("a lower learning rate: {}", lower_rate(o, 3)),
        ]
        kept = m["kept_step"]
        note = f"The weights that are kept are those of step {kept:.0f}, the best so far." if kept > 0 else ""
        return Finding("over_fitting", "warning", evidence, advise(o, *cures, note=note))
    return None


def worse_than_start(m: Measures, o: Objective) -> Finding | None:
    """On the test classes the trained model is worse than the untrained one."""
    name = next((name for name in RESULTS if f"{name}_after" in m), "")
    if m[f"{name}_after"] < m[f"{name}_before"]:
        evidence = {f"{n}_{when}": m[f"{n}_{when}"] for n in RESULTS for when in WHEN if f"{n}_{when}" in m}
        cures = [
            Cure("a lower learning rate: {}", lower_rate(o)),
            Cure("the head alone: {}", {"encoder.freeze": True}),
            Cure("use the pretrained backbone without training"),
        ]
        note = "Findings that stand beside this one may say why."
        return Finding("worse_than_start", "critical", evidence, advise(o, *cures, note=note))
    return None
