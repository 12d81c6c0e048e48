"""What to train in so many minutes: pure functions of what was measured (`measure.py`)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "MARGIN",
    "SIZES",
    "TEXT_SIZE",
    "Facts",
    "Plan",
    "candidates",
    "expected",
    "plan",
    "seconds_at",
    "size_for",
    "steps_left",
]

# Sides of the input in pixels, among which a plan chooses.
SIZES = (64, 96, 128, 160, 224)
# Side of the input of images that are learned with their texts.
TEXT_SIZE = 192
# Images of up to this side are icons, emoji, glyphs: 64 pixels show what is on them.
ICON = 100
# Sides beyond which the default run takes too long without a GPU, and with one.
LARGEST = {False: 160, True: 224}
# Classes of a batch, from the recipe's down; a smaller batch is taken where the steps would be fewer than `ENOUGH`.
CLASSES = (32, 24, 16, 12, 8)
ENOUGH = 150
# With fewer steps a smaller size is taken, and below the smallest the backbone is frozen. Of 43 steps of 8 x 4 icons
# (1,000 images, 128 px) the first 13 brought almost all: MAP@R of validation classes from 0.515 to 0.61.
FEWEST = 30
# What a larger size must gain, as a share of its MAP@R, to be worth its seconds.
GAIN = 0.05
# What training the backbone gains, as a share of its MAP@R, where there are so many images: 0.42 with 975 icons of 120
# classes, nothing with 381 photographs and drawings of 30.
LEARNED, MANY = 0.4, 1000
# Share of the time that the features of a frozen backbone may take.
FROZEN = 0.8
# Share of the time for validations, and how many there are.
VALIDATING, VALIDATIONS = 0.15, (2, 8)
# What the plan leaves free of the time that it has.
MARGIN = 0.03


@dataclass(frozen=True)
class Facts:
    """What was measured.

    Attributes:
        images: of all splits.
        classes: of all splits.
        train, validation, test: images of each split.
        train_classes: classes to train on.
        samples: items of the largest of these.
        side: median shorter side of the images, in pixels.
        seconds: left of the minutes.
        decode: seconds for an image, read whole, on all cores.
        decode_ahead: the same at the scale that training takes.
        forward: seconds for an image through the encoder, by size.
        step: seconds for an image of a training step, by size.
        head: seconds for an image of a step of the head alone.
        untrained: MAP@R of the untrained backbone among training images, by size; may be empty.
        ending: seconds for what follows the last embedding: saving, and drawing the report.
        start: training images by whose features the head starts.
        gpu: whether there is one.
    """

    images: int
    classes: int
    train: int
    validation: int
    test: int
    train_classes: int
    samples: int
    side: int
    seconds: float
    decode: float
    decode_ahead: float
    forward: Mapping[int, float] = field(default_factory=dict)
    step: Mapping[int, float] = field(default_factory=dict)
    head: float = 0.0
    untrained: Mapping[int, float] = field(default_factory=dict)
    ending: float = 0.0
    start: int = 0
    gpu: bool = False


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        size: side of the input in pixels.
        freeze: whether the backbone is frozen.
        classes, samples: of a batch.
        steps: as many as fit, if each takes as long as it did when it was measured.
        validate_every: steps between validations.
        seconds: expected, until the run is done, report and all.
    """

    size: int
    freeze: bool
    classes: int
    samples: int
    steps: int
    validate_every: int
    seconds: float


def size_for(side: int, gpu: bool = False) -> int:
    """The side of the input for images of this side, where nothing is said and no time is given: 64 pixels for icons,
    about their own side for photographs, as far as that takes a sensible time."""
    if side <= ICON:
        return SIZES[0]
    return min(LARGEST[gpu], *sorted(SIZES, key=lambda size: abs(size - side))[:1])


def candidates(facts: Facts, size: int = 0) -> tuple[int, ...]:
    """The sizes among which a plan chooses, or the one that is given: of icons, small ones."""
    return (size,) if size else SIZES if facts.side > ICON else SIZES[:3]


def seconds_at(measured: Mapping[int, float], size: int) -> float:
    """Seconds at a size between or beyond those that were measured: by the power law through the nearest two, by the
    area from one alone."""
    if size in measured:
        return measured[size]
    low, *_, high = sorted(measured, key=lambda each: abs(each - size))[:2] * 2
    power = 2.0 if low == high else math.log(measured[high] / measured[low]) / math.log(high / low)
    return float(measured[low] * (size / low) ** min(max(power, 0.0), 3.0))


def plan(
    facts: Facts,
    *,
    size: int = 0,
    freeze: bool | None = None,
    classes: int = 0,
    samples: int = 0,
    steps: int = 0,
    validate_every: int = 0,
) -> Plan:
    """The plan that follows from the facts. What is given stays as it is.

    The size is the one at which the untrained backbone finds about the most, among those that leave time for `FEWEST`
    steps of the smallest batch; the batch is the largest that leaves time for `ENOUGH`. The backbone is frozen where no
    size leaves so many, or where frozen it can have a size that gains more than training it can: `LEARNED` of its
    MAP@R, less for few images.

    Args:
        facts: what was measured.
        size: of the input, in pixels; 0: to be chosen, and so for those that follow.
        freeze: whether the backbone is frozen; None: to be chosen.
        classes: of a batch.
        samples: of each class.
        steps: how many.
        validate_every: steps between validations.
    """
    samples = samples or min(4, facts.samples)
    batches = (classes,) if classes else tuple(sorted({min(each, facts.train_classes) for each in CLASSES}))
    sizes = candidates(facts, size)
    fitting = [each for each in sizes if _steps(facts, each, batches[0] * samples) >= FEWEST]
    features = [each for each in sizes if _fixed(facts, each, freeze=True) < FROZEN * facts.seconds]
    learning, frozen = _best(facts, fitting or sizes[:1]), _best(facts, features or sizes[:1])
    if freeze is None:
        gain = facts.untrained.get(frozen, 0.0) / max(facts.untrained.get(learning, 0.0), 1e-9) - 1
        freeze = not fitting or gain > LEARNED * min(1.0, facts.train / MANY) ** 2
    if freeze:
        return _made(facts, frozen, True, batches[-1], samples, steps, validate_every)
    enough = [each for each in batches if _steps(facts, learning, each * samples) >= ENOUGH]
    return _made(facts, learning, False, (enough or batches[:1])[-1], samples, steps, validate_every)


def expected(facts: Facts, size: int, freeze: bool, batch: int, steps: int, validations: int) -> float:
    """Seconds that a run of so many steps takes, as far as can be told before it.

    Args:
        facts: what was measured.
        size: of the input, in pixels.
        freeze: whether the backbone is frozen.
        batch: images in a step.
        steps: how many.
        validations: how many.
    """
    return (
        _fixed(facts, size, freeze)
        + steps * _step(facts, size, batch, freeze)
        + validations * _validation(facts, size, freeze)
    )


def steps_left(seconds: float, step: float, validation: float, every: int, since: int) -> int:
    """Steps that fit into the seconds, with a validation after each `every` steps and after the last.

    Args:
        seconds: left for them.
        step: seconds of one.
        validation: seconds of one.
        every: steps between validations.
        since: steps since the last validation.
    """
    steps = max(0, math.floor((seconds - validation * since / every) / (step + validation / every)))
    excess = steps * step + validation * math.ceil((since + steps) / every) - seconds
    return max(0, steps - math.ceil(max(0.0, excess) / step))


def _best(facts: Facts, sizes: list[int] | tuple[int, ...]) -> int:
    """The size that finds the most, of several about equal ones the smallest; by the images' side where that was not
    measured."""
    known = {each: facts.untrained[each] for each in sizes if each in facts.untrained}
    if not known:
        return min(sizes, key=lambda each: abs(each - size_for(facts.side, facts.gpu)))
    return min(each for each in known if known[each] >= (1 - GAIN) * max(known.values()))


def _steps(facts: Facts, size: int, batch: int) -> int:
    """Training steps of so many images that fit, with the fewest validations."""
    left = facts.seconds * (1 - MARGIN) - _fixed(facts, size, freeze=False)
    return math.floor((left - VALIDATIONS[0] * _validation(facts, size, False)) / _step(facts, size, batch))


def _step(facts: Facts, size: int, batch: int, freeze: bool = False) -> float:
    return batch * (facts.head if freeze else seconds_at(facts.step, size))


def _validation(facts: Facts, size: int, freeze: bool) -> float:
    return facts.validation * (facts.head if freeze else seconds_at(facts.forward, size))


def _fixed(facts: Facts, size: int, freeze: bool) -> float:
    """Seconds for all but steps and validations: the head starts, images are decoded, the test is embedded before and
    after, validation before, and after with each of the weights among which it chooses, training after; with a frozen
    backbone, each image once."""
    forward = seconds_at(facts.forward, size)
    if freeze:
        return facts.images * (facts.decode + forward) + facts.ending
    decoding = facts.images * facts.decode + facts.train * facts.decode_ahead
    starting = facts.start * (facts.decode + forward)
    return starting + decoding + (2 * facts.test + 6 * facts.validation + facts.train) * forward + facts.ending


def _made(facts: Facts, size: int, freeze: bool, classes: int, samples: int, steps: int, validate_every: int) -> Plan:
    batch, seconds = classes * samples, facts.seconds * (1 - MARGIN)
    left = max(0.0, seconds - _fixed(facts, size, freeze))
    few, many = VALIDATIONS
    validation = _validation(facts, size, freeze)
    count = min(max(few, int(VALIDATING * left / max(validation, 1e-9))), many)
    steps = steps or max(1, math.floor((left - count * validation) / _step(facts, size, batch, freeze)))
    every = validate_every or max(1, -(-steps // count))
    taken = expected(facts, size, freeze, batch, steps, -(-steps // every))
    return Plan(size, freeze, classes, samples, steps, every, taken)
