"""Findings in what the loss sees: its value, its temperature, its pairs."""

from pullpush.doctor.advice import Cure, advise, lower_rate
from pullpush.doctor.finding import Finding, Measures, Objective
from pullpush.doctor.measure import SIDES

__all__ = [
    "loss_at_chance",
    "loss_at_floor",
    "miner_leaves_nothing",
    "no_active_triplet",
    "no_positives",
    "temperature_too_high",
    "temperature_too_low",
    "triplet_at_margin",
]

# Floor of the loss as a share of its value at chance, above which the temperature leaves too little room.
HIGH_FLOOR = 0.4
# Share of the way from chance to the floor that is left where the loss is said to be at its floor.
AT_FLOOR = 0.25
AT_CHANCE = 0.02
# Below SHARP, the closest negative alone counts at the start, or embeddings in a narrow cone are good enough.
SHARP, FEW_NEGATIVES, CONE = 0.03, 2.0, 0.8
AT_MARGIN, ALIKE = 0.02, 0.25
# Largest update, as a share of the weights, below which nothing much was tried yet.
SLOW = 1e-3
LOOKS = 2


def loss_at_floor(m: Measures, o: Objective) -> Finding | None:
    """The softmax over bare cosines can't fall any further, however good the embeddings are."""
    room = m["chance"] - m["floor"]
    if m["floor"] > HIGH_FLOOR * m["chance"] and m["loss"] - m["floor"] < AT_FLOOR * room:
        evidence = {name: m[name] for name in ("loss", "floor", "chance", "temperature")}
        note = "Cosines lie between -1 and 1, and need a scale before the softmax."
        return Finding("loss_at_floor", "critical", evidence, advise(o, *_sharper(o), note=note))
    return None


def loss_at_chance(m: Measures, o: Objective) -> Finding | None:
    """The loss is ln N: positives are no closer than negatives."""
    near = abs(m["loss"] - m["chance"]) < AT_CHANCE * m["chance"]
    if near and m["step"] > 0.2 * o.steps and m["nearest"] < 0.5:
        evidence = {name: m[name] for name in ("loss", "chance", "positive", "negative")}
        slow = m["largest_update_ratio"] < SLOW
        cures = [
            *_sharper(o),
            Cure(f"{'raise' if slow else 'lower'} the learning rate: {{}}", lower_rate(o, 0.1 if slow else 10)),
            Cure("check that the labels belong to the items"),
        ]
        return Finding("loss_at_chance", "warning", evidence, advise(o, *cures))
    return None


def temperature_too_high(m: Measures, o: Objective) -> Finding | None:
    """The floor of the loss is close to its value at chance: hardly any room to tell good from bad."""
    if m["floor"] > HIGH_FLOOR * m["chance"]:
        evidence = {name: m[name] for name in ("temperature", "floor", "chance")}
        note = "With the present one this loss can't fall below its floor."
        return Finding("temperature_too_high", "warning", evidence, advise(o, *_sharper(o), note=note))
    return None


def temperature_too_low(m: Measures, o: Objective) -> Finding | None:
    """The closest negative takes the whole gradient of each anchor, right label or wrong; and as small differences of
    the cosine are enough, all embeddings stay within a narrow cone."""
    negatives = m["first_effective_negatives" if "first_effective_negatives" in m else "effective_negatives"]
    cone = max((m[f"{side}/mean_cosine"] for side in SIDES if f"{side}/mean_cosine" in m), default=0.0) > CONE
    if m["temperature"] < SHARP and m["negatives"] > 8 and (negatives < FEW_NEGATIVES or cone):
        evidence = {"temperature": m["temperature"], "effective_negatives": negatives, "negatives": m["negatives"]}
        evidence |= {f"{side}_mean_cosine": m[f"{side}/mean_cosine"] for side in SIDES if f"{side}/mean_cosine" in m}
        return Finding("temperature_too_low", "warning", evidence, advise(o, *_sharper(o)))
    return None


def triplet_at_margin(m: Measures, o: Objective) -> Finding | None:
    """Positives are as far as negatives, so each triplet costs the margin: the shortest way to a lower loss was to
    make all embeddings equal."""
    if abs(m["loss"] - m["margin"]) < AT_MARGIN * m["margin"] and m["spread"] < ALIKE * m["margin"]:
        evidence = {name: m[name] for name in ("loss", "margin", "positive", "negative")}
        options = {"loss.kind": "semihard"} if o.option("kind") == "hard" else {}
        options |= lower_rate(o, most=5e-4) or {"optimizer.lr": 5e-4}
        return Finding("triplet_at_margin", "critical", evidence, advise(o, Cure("start anew with {}", options)))
    return None


def no_active_triplet(m: Measures, o: Objective) -> Finding | None:
    """Each positive is closer than each negative by the margin: nothing is left to learn from these batches."""
    if m["triplets"] > 0 and m["active_triplets"] == 0 and not m["looks_without_active"] < LOOKS:
        classes, memory = int(o.run.get("batch.classes", 0)), o.run.get("memory.size")
        cures = [
            Cure("{}", {"loss.margin": 2 * m["margin"]}),
            Cure("harder batches: {}", {"batch.classes": 2 * classes} if classes else {}),
            Cure("a memory of recent batches: {}", {"memory.size": memory or 1024}),
        ]
        evidence = {"active_share": 0.0, "triplets": m["triplets"], "margin": m["margin"]}
        return Finding("no_active_triplet", "warning", evidence, advise(o, *cures))
    return None


def miner_leaves_nothing(m: Measures, o: Objective) -> Finding | None:
    """No pair passes the miner: the loss is 0, or what is left of it, and nothing is learned."""
    # A batch without any mistake has nothing to mine.
    mistakes = m["nearest"] < 1
    if m["mined"] == 0 and m["with_positive"] > 0 and mistakes and not m["looks_without_mined"] < LOOKS:
        evidence = {"anchors_with_pairs": m["mined"], "anchors": m["anchors"]}
        note = f"The options of {o.run.get('miner', 'the miner')} are too strict for these similarities."
        advice = advise(o, Cure("{} keeps all pairs", {"miner": "none"}), note=note)
        return Finding("miner_leaves_nothing", "warning", evidence, advice)
    return None


def no_positives(m: Measures, o: Objective) -> Finding | None:
    """Anchors without a positive pull nothing together."""
    share = m["with_positive"]
    if share < 0.5:
        samples = o.run.get("batch.samples", 1)
        few = (
            {"batch.samples": int(min(4, o.limits.get("batch.samples", 4)))} if samples < 2 else {"batch.short": "drop"}
        )
        cures = [Cure("{}", few), Cure("label the items so that most classes have two or more")]
        severity = "critical" if share == 0 else "warning"
        note = "A batch needs at least two items of a class, of different ids."
        return Finding("no_positives", severity, {"anchors_with_positive": share}, advise(o, *cures, note=note))
    return None


def _sharper(o: Objective) -> list[Cure]:
    """A temperature that has shown itself, and what keeps it there where it is learned."""
    return [
        Cure("{}", {"loss.temperature": 0.07}),
        *([Cure("keep the temperature where it starts: {}", {"learn": "none"})] if o.learns("temperature") else []),
    ]
