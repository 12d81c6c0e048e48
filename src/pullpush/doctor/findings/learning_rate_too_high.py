"""Steps that are too large."""

from pullpush.doctor.declaration import Cure, Curves, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["learning_rate_too_high"]

# Update of the weights in one step as a share of their length.
LARGE_UPDATE = 0.2
# Length of the weights compared with the first step: updates that point here and there make them longer.
LARGE_GROWTH = 3.0


@finding(
    "warning",
    seen=f"one step changes the weights by more than {LARGE_UPDATE:.0%} of their length, or they grew to "
    f"{LARGE_GROWTH:g} times it",
    cure="the named `--optimizer.lr`",
    words={
        "update_over_weights": "change of the weights in one step, as a share of their length",
        "weight_growth": "length of the weights, as a multiple of that at the first step",
        "gradient_norm": "norm of the gradient",
    },
    figure=Curves("Update as a share of the weights", "share", {"update_ratio": "of one step"}),
)
def learning_rate_too_high(m: Measures, o: Objective) -> Symptom | None:
    """A step changes the weights by a large share of their length. What the backbone or the head knew is overwritten in
    the first steps, and a collapse is near."""
    if m["largest_update_ratio"] > LARGE_UPDATE or m["weight_growth"] > LARGE_GROWTH:
        evidence = {"update_over_weights": m["largest_update_ratio"], "weight_growth": m["weight_growth"]}
        lower = lower_rate(o, most=1e-3) or {"optimizer.lr": 5e-4}
        return Symptom(evidence | m.some("gradient_norm", "first_loss", "loss"), [Cure("{}", lower)])
    return None
