"""The loss of a softmax against its floor and against chance: a temperature that is too high or too low."""

from pullpush.doctor.declaration import SIDES, Cure, Curves, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["loss_at_chance", "loss_at_floor", "temperature_too_high", "temperature_too_low"]

# Floor of the loss as a share of its value at chance, above which the temperature leaves too little room.
HIGH_FLOOR = 0.4
# Share of the way from chance to the floor that is left where the loss is said to be at its floor.
AT_FLOOR = 0.25
AT_CHANCE = 0.02
# Share of the steps after which the loss should have left chance.
BEGUN = 0.2
# Below SHARP, the closest negative alone counts at the start, or embeddings in a narrow cone are good enough.
SHARP, FEW_NEGATIVES, CONE = 0.03, 2.0, 0.8
# Fewer negatives do not tell.
NEGATIVES = 8
# Largest update, as a share of the weights, below which nothing much was tried yet.
SLOW = 1e-3

LOSS, CHANCE = {"train/loss": "training loss"}, {"chance": "all similarities equal"}
FLOOR = Curves("Loss and its floor", "loss", LOSS, {**CHANCE, "floor": "floor"})
TEMPERATURE = 0.07
CURE = f"`--loss.temperature {TEMPERATURE}`"
WORDS = {"chance": "loss of similarities that are all alike", "floor": "lowest loss that this temperature allows"}


@finding(
    "critical",
    seen="less than a quarter of the way from ln N to ln(1 + (N-1) e^(-N/((N-1) τ))) is left, and the floor is above "
    f"{HIGH_FLOOR:.0%} of ln N: see [n-pair.md](n-pair.md)",
    cure=CURE,
    words=WORDS,
    figure=FLOOR,
    hides=("temperature_too_high",),
)
def loss_at_floor(m: Measures, o: Objective) -> Symptom | None:
    """Cosines lie between -1 and 1. Between two such numbers the softmax can't be sure of anything, so the loss has a
    floor far above 0 that even perfect embeddings do not pass, and near it hardly any slope is left."""
    room = m["chance"] - m["floor"]
    if m["floor"] > HIGH_FLOOR * m["chance"] and m["loss"] - m["floor"] < AT_FLOOR * room:
        note = "Cosines lie between -1 and 1, and need a scale before the softmax."
        return Symptom(m.some("loss", "floor", "chance", "temperature"), _sharper(o), note)
    return None


@finding(
    "warning",
    seen=f"the loss is within {AT_CHANCE:.0%} of ln N after a fifth of the steps, and less than half of the nearest "
    "references are positives",
    cure="temperature, learning rate, labels",
    words={"positive": "mean similarity of positives", "negative": "mean similarity of negatives"},
    figure=Curves("Loss and chance", "loss", LOSS, CHANCE),
)
def loss_at_chance(m: Measures, o: Objective) -> Symptom | None:
    """The loss is the logarithm of the number of references: to the loss, positives are no closer than negatives. A
    right guess is as likely as by drawing lots."""
    near = abs(m["loss"] - m["chance"]) < AT_CHANCE * m["chance"]
    if near and m["step"] > BEGUN * o.steps and m["nearest"] < 0.5:
        slow = m["largest_update_ratio"] < SLOW
        cures = [
            *_sharper(o),
            Cure(f"{'raise' if slow else 'lower'} the learning rate: {{}}", lower_rate(o, 0.1 if slow else 10)),
            Cure("check that the labels belong to the items"),
        ]
        return Symptom({name: m[name] for name in ("loss", "chance", "positive", "negative")}, cures)
    return None


@finding(
    "warning",
    seen=f"the floor is above {HIGH_FLOOR:.0%} of ln N",
    cure=CURE,
    figure=FLOOR,
)
def temperature_too_high(m: Measures, o: Objective) -> Symptom | None:
    """Even perfect embeddings would leave most of the loss, so most of the gradient goes to pairs that are right
    already."""
    if m["floor"] > HIGH_FLOOR * m["chance"]:
        note = "With the present one this loss can't fall below its floor."
        return Symptom(m.some("temperature", "floor", "chance"), _sharper(o), note)
    return None


@finding(
    "warning",
    seen=f"τ below {SHARP}, and at the start the closest negative has nearly all the weight, or all embeddings stay in "
    f"a cone of mean cosine {CONE}",
    cure=CURE,
    words={
        "effective_negatives": "negatives that share an anchor's gradient",
        "negatives": "negatives of an anchor",
        "image_mean_cosine": "mean cosine of unrelated images",
        "text_mean_cosine": "mean cosine of unrelated texts",
        "embeddings_mean_cosine": "mean cosine of unrelated items",
    },
    figure=Curves(
        "Negatives that share an anchor's gradient", "negatives", {"effective_negatives": "effective number"}
    ),
    hides=("near_collapse",),
)
def temperature_too_low(m: Measures, o: Objective) -> Symptom | None:
    """Of all negatives of an anchor the closest one has the whole gradient: noise and wrong labels decide, and the loss
    jumps. Differences of the cosine as small as the temperature are enough for it, so embeddings stay in a narrow
    cone."""
    negatives = m.get("first_effective_negatives", m["effective_negatives"])
    cosines = {f"{side}_mean_cosine": m[f"{side}/mean_cosine"] for side in SIDES if f"{side}/mean_cosine" in m}
    cone = max(cosines.values(), default=0.0) > CONE
    if m["temperature"] < SHARP and m["negatives"] > NEGATIVES and (negatives < FEW_NEGATIVES or cone):
        evidence = {"temperature": m["temperature"], "effective_negatives": negatives, "negatives": m["negatives"]}
        return Symptom(evidence | cosines, _sharper(o))
    return None


def _sharper(o: Objective) -> list[Cure]:
    """A temperature that has shown itself, and what keeps it there where it is learned."""
    kept = [Cure("keep the temperature where it starts: {}", {"learn": "none"})] if o.learns("temperature") else []
    return [Cure("{}", {"loss.temperature": TEMPERATURE}), *kept]
