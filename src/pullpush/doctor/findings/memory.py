"""A memory whose content is out of date, and one that is not read because of it."""

from pullpush.doctor.declaration import Cure, Curves, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["shut_memory", "stale_memory"]

# Mean squared change of embeddings while they lie in the memory, as a share of the squared distance of unrelated
# items, at two looks one after the other.
LARGE_DRIFT = 0.8
# Share of the memory that is read; share of the steps after which a memory should have opened.
SHUT, LATE = 0.05, 0.5
# `memory.tolerance` of the recipe.
DEFAULT = 1.0


@finding(
    "warning",
    seen=f"items have moved, since they entered the memory, by {LARGE_DRIFT:.0%} of the distance of unrelated items, "
    "at two looks in a row",
    cure="`--memory.compensate moments`, `--memory.tolerance`, `--memory.start_step`, a smaller `--memory.size`",
    words={
        "lasting_drift": "change within the memory, as a share of the distance of unrelated items",
        "memory_drift": "mean squared change within the memory",
        "memory_age": "mean age in the memory, in steps",
        "memory_oldest": "oldest in the memory, in steps",
    },
    figure=Curves("Drift in the memory", "squared change", {"memory_drift": "of items seen again"}),
)
def stale_memory(m: Measures, o: Objective) -> Symptom | None:
    """The encoder has moved on since the embeddings in the memory were computed: the loss compares with places where
    nothing is any more."""
    if m["lasting_drift"] > LARGE_DRIFT:
        start = round(max(o.run.get("memory.start_step", 0), m["step"]) + m["memory_age"])
        size = o.run.get("memory.size")
        cures = [
            Cure("read it as if it had moved as all have: {}", {"memory.compensate": "moments"}),
            Cure("read only what has stayed where it was: {}", {"memory.tolerance": 0.5}),
            Cure("{}, as embeddings drift fast at first", {"memory.start_step": start}),
            Cure("a smaller memory, whose content is younger: {}", {"memory.size": size / 2 if size else 1024}),
            *_slower(o),
        ]
        return Symptom(m.some("lasting_drift", "memory_drift", "memory_age", "memory_oldest"), cures)
    return None


@finding(
    "note",
    seen=f"less than {SHUT:.0%} of the memory is read, at two looks in a row after {LATE:.0%} of the steps",
    cure="the default `--memory.tolerance`, a lower `--optimizer.backbone_scale`, more `--steps`",
    words={"memory_open": "share of the memory that is read, the larger of two looks"},
    figure=Curves("What is read of the memory", "share of its items", {"memory_open": "not too old to be read"}),
)
def shut_memory(m: Measures, o: Objective) -> Symptom | None:
    """Embeddings move faster than the memory tolerates: it is not read, and the run is one without."""
    if m["memory_open"] < SHUT and m["step"] >= LATE * o.steps:
        strict = o.run.get("memory.tolerance", DEFAULT) < DEFAULT
        usual = [Cure("the tolerance of the default: {}", {"memory.tolerance": DEFAULT})] if strict else []
        longer = Cure("more steps: {}", {"steps": 2 * o.steps} if o.steps else {})
        return Symptom(m.some("memory_open", "step"), [*usual, *_slower(o), longer])
    return None


def _slower(o: Objective) -> list[Cure]:
    """The backbone first: its rate is what moves embeddings."""
    scale = o.run.get("optimizer.backbone_scale", 1.0)
    return [
        Cure("a slower backbone: {}", {"optimizer.backbone_scale": float(f"{scale / 10:.0e}")}),
        Cure("a lower learning rate: {}", lower_rate(o)),
    ]
