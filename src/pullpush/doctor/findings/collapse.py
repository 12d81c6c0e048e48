"""Embeddings that draw together, dimensions that carry nothing or everything, lengths that should not count."""

from pullpush.doctor.declaration import SIDES, Cure, Curves, Measures, Objective, Symptom, Value, finding, lower_rate
from pullpush.maths.losses.triplet import triplet

__all__ = ["collapse", "dead_dimensions", "dominating_dimension", "is_collapsed", "near_collapse", "not_normalised"]

# Mean cosine of unrelated items: all directions within some 8 degrees, and within some 25.
COLLAPSED, NEAR = 0.99, 0.9
# Effective rank of a set of more than FEW embeddings that lie on a line, and nearly so.
ONE_LINE, FEW_LINES = 1.5, 3.0
FEW = 8
# A dimension with this share of the variance decides alone, and keeps the effective rank low.
LOUD = 0.5
# Fewer items have no meaningful spread: nothing is said of dimensions.
ENOUGH = 32
# Share of the steps in which embeddings may draw together, and how much higher than at first the cosine may be.
SETTLED, RISE = 0.2, 0.02
# Difference of a length from 1.
NORM_ERROR = 0.05

COSINES = Curves("Mean cosine of unrelated items", "cosine", {f"{side}/mean_cosine": side for side in SIDES})


@finding(
    "critical",
    seen=f"mean cosine of unrelated items above {COLLAPSED}, or effective rank below {ONE_LINE}; a softmax loss "
    "is then at ln N",
    cure="start anew with `--loss.temperature 0.07`, a lower `--optimizer.lr`, for triplets `--loss.kind semihard`",
    words={"mean_cosine": "mean cosine of unrelated items"},
    figure=COSINES,
    hides=("loss_at_chance", "near_collapse"),
)
def collapse(m: Measures, o: Objective) -> Symptom | None:
    """All items have nearly the same embedding, or lie on one line. Every similarity is the same number, the softmax
    gives each reference the same share, and the gradient is exactly zero: training can't leave this point."""
    for side in SIDES:
        if m[f"{side}/mean_cosine"] > COLLAPSED or (m[f"{side}/effective_rank"] < ONE_LINE and not _is_few(m, side)):
            return _symptom(m, o, side)
    return None


@finding(
    "warning",
    seen=f"after a fifth of the steps, mean cosine above {NEAR} and not below that of the first look, or effective "
    f"rank below {FEW_LINES:g}",
    cure="as for `collapse`, before it is too late",
    figure=COSINES,
)
def near_collapse(m: Measures, o: Objective) -> Symptom | None:
    """The embeddings draw together and the differences between items fade. What is left of the gradient shrinks with
    them."""
    if m["step"] < SETTLED * o.steps:
        return None  # many losses pull before they push
    for side in SIDES:
        cos, rank, first = m[f"{side}/mean_cosine"], m[f"{side}/effective_rank"], m[f"first_{side}/mean_cosine"]
        drawn = NEAR < cos <= COLLAPSED and not cos < first + RISE
        if drawn or (ONE_LINE <= rank < FEW_LINES and cos <= COLLAPSED and not _is_few(m, side)):
            return _symptom(m, o, side)
    return None


@finding(
    "warning",
    seen="dimensions that are the same for all items",
    cure="a head that ends with a linear layer, a smaller `--encoder.dim`",
    words={"dead": "dimensions that are the same for all items"},
    figure="spread",
)
def dead_dimensions(m: Measures, o: Objective) -> Symptom | None:
    """Some dimensions are the same for all items. They cost memory and carry nothing."""
    for side in SIDES:
        dead, dim = m[f"{side}/dead_dimensions"], m[f"{side}/dim"]
        if 0 < dead < dim and m[f"{side}/items"] >= ENOUGH and not is_collapsed(m, side):
            cures = [
                Cure("to fill all, end the head with a linear layer: {}", {"encoder.head": "linear"}),
                Cure("{} loses nothing", {"encoder.dim": max(8, int(dim - dead))}),
                Cure("lower the learning rate: {}", lower_rate(o)),
            ]
            return Symptom({"dead": dead, "dimensions": dim}, cures)
    return None


@finding(
    "warning",
    seen=f"one dimension has over {LOUD:.0%} of the variance",
    cure="a lower `--optimizer.lr`, `--optimizer.weight_decay`, standardised features",
    words={"share": "share of the variance in one dimension"},
    figure="spread",
)
def dominating_dimension(m: Measures, o: Objective) -> Symptom | None:
    """One dimension has most of the variance, so it alone decides which items are similar."""
    for side in SIDES:
        share, dim = m[f"{side}/dominating_share"], m[f"{side}/dim"]
        enough = m[f"{side}/items"] >= ENOUGH and dim >= FEW
        if share > LOUD and enough and not m[f"{side}/mean_cosine"] > COLLAPSED:
            decay = max(0.01, 10 * o.run.get("optimizer.weight_decay", 0.0))
            cures = [
                Cure("lower the learning rate: {}", lower_rate(o)),
                Cure("add weight decay: {}", {"optimizer.weight_decay": decay}),
                Cure("standardise features of unequal scale first"),
            ]
            return Symptom({"share": share, "dimensions": dim}, cures)
    return None


def is_collapsed(m: Measures, side: str) -> bool:
    """Whether the embeddings of a side are one point or one line, however few they are."""
    return m[f"{side}/mean_cosine"] > COLLAPSED or m[f"{side}/effective_rank"] < ONE_LINE


def _is_few(m: Measures, side: str) -> bool:
    """Whether a low effective rank says nothing: few items or dimensions, or one that is louder than all others."""
    return min(m[f"{side}/items"], m[f"{side}/dim"]) <= FEW or m[f"{side}/dominating_share"] > LOUD


def _symptom(m: Measures, o: Objective, side: str) -> Symptom:
    evidence = {name: m[f"{side}/{name}"] for name in ("mean_cosine", "effective_rank") if f"{side}/{name}" in m}
    options: dict[str, Value] = {}
    # Embeddings alone do not tell the temperature: then it is the one of the configuration.
    if o.softmax and m.get("temperature", o.option("temperature") or 0.0) >= 0.3:
        options["loss.temperature"] = 0.07
    if o.lr is not None and (o.lr > 2e-3 or not options):
        options |= lower_rate(o, most=5e-4)
    if o.loss and o.loss.made_by(triplet) and o.option("kind") == "hard":
        options["loss.kind"] = "semihard"
    cure = Cure("start anew with {}", options) if options else Cure("start anew with a lower learning rate")
    return Symptom(evidence | m.some("loss", "chance", "largest_update_ratio"), [cure])


@finding(
    "warning",
    seen=f"lengths differ from 1 by more than {NORM_ERROR}, and the loss compares lengths",
    cure="`--similarity cosine`, `ImageEncoder(normalize=True)`",
    words={"largest_norm_error": "largest difference of a length from 1"},
)
def not_normalised(m: Measures, o: Objective) -> Symptom | None:
    """The loss compares lengths as well as directions. Its margin or temperature is meant for vectors of length 1; with
    others it is out of proportion, and a longer vector lowers the loss without being right."""
    error = max(m.some(*(f"{side}/norm_error" for side in SIDES)).values(), default=0.0)
    if o.loss and not o.loss.traits.unit_length and o.similarity != "cosine" and error > NORM_ERROR:
        cures = [Cure("{}", {"similarity": "cosine"}), Cure("divide each embedding by its length")]
        return Symptom(
            {"largest_norm_error": error}, cures, f"The options of {o.loss.name} are for vectors of length 1."
        )
    return None
