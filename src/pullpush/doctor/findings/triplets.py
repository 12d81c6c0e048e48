"""Triplets that all cost the margin, or that cost nothing."""

from pullpush.doctor.declaration import Cure, Curves, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["no_active_triplet", "triplet_at_margin"]

# How far the loss is from the margin, and the spread of the similarities, as shares of the margin.
AT_MARGIN, ALIKE = 0.02, 0.25
LOOKS = 2


@finding(
    "critical",
    seen=f"the loss is within {AT_MARGIN:.0%} of the margin, and all similarities are alike",
    cure="`--loss.kind semihard`, a lower `--optimizer.lr`",
    figure=Curves("Loss and margin", "loss", {"train/loss": "training loss"}, {"margin": "margin"}),
)
def triplet_at_margin(m: Measures, o: Objective) -> Symptom | None:
    """Positives are as far away as negatives, so each triplet costs just the margin. Making all embeddings equal was
    the shortest way there."""
    if abs(m["loss"] - m["margin"]) < AT_MARGIN * m["margin"] and m["spread"] < ALIKE * m["margin"]:
        rate = lower_rate(o, most=5e-4) or {"optimizer.lr": 5e-4}
        options = ({"loss.kind": "semihard"} if o.option("kind") == "hard" else {}) | rate
        evidence = {name: m[name] for name in ("loss", "margin", "positive", "negative")}
        return Symptom(evidence, [Cure("start anew with {}", options)])
    return None


@finding(
    "warning",
    seen=f"no triplet violates the margin, at {LOOKS} looks in a row",
    cure="a larger `--loss.margin`, harder batches, a memory",
    words={"active_share": "share of triplets that violate the margin"},
    figure=Curves("Active triplets", "share", {"active_triplets": "violate the margin"}),
)
def no_active_triplet(m: Measures, o: Objective) -> Symptom | None:
    """Every positive is closer than every negative by the margin. Loss and gradient are 0."""
    if m["triplets"] > 0 and m["active_triplets"] == 0 and not m["looks_without_active"] < LOOKS:
        classes, memory = int(o.run.get("batch.classes", 0)), o.run.get("memory.size")
        # With the distance between positives and negatives as the margin, about half of the triplets would violate it.
        apart = m["positive"] - m["negative"]
        cures = [
            Cure("{}", {"loss.margin": float(f"{max(2 * m['margin'], apart):.2g}")}),
            Cure("harder batches: {}", {"batch.classes": 2 * classes} if classes else {}),
            Cure("a memory of recent batches: {}", {"memory.size": memory or 1024}),
        ]
        return Symptom({"active_share": 0.0, "triplets": m["triplets"], "margin": m["margin"]}, cures)
    return None
