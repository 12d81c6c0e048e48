"""What a plan follows from, measured in seconds: the data, and what they cost on this machine."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from pullpush.criterion import Criterion
from pullpush.data.images import median_side, squares
from pullpush.data.items import Items
from pullpush.data.workers import cores
from pullpush.encoders.backbones import own_size
from pullpush.errors import UserError
from pullpush.evaluation import evaluate
from pullpush.evaluation.views import CANDIDATES, passes
from pullpush.images.preprocessing import normalise
from pullpush.modes import evaluating
from pullpush.progress import duration, say
from pullpush.runs.config import Config, with_texts
from pullpush.training.plan import Facts, Plan, candidates, expected, plan, seconds_at, size_for
from pullpush.training.reranking import named_rerank
from pullpush.training.towers import image_encoder, start_rows, usual_size

__all__ = ["measured", "settle", "settle_precision"]

# Images that are decoded.
DECODED = 8
# Training images among which the untrained backbone finds neighbours: so many at least and at most. Of 381 photographs
# 192 showed no difference between 128 and 224 px, all of them one of 8%, and the test classes one of 10%.
SEARCHED = (192, 1024)
# Images of a measured step, without a GPU and with one.
BATCH = {False: 12, True: 128}
# Of the minutes, at most so much goes into finding the size.
LOOKING = 0.06
# Of the minutes, at most so much goes into test views; where they would take more, there are none.
VIEWING = 0.15
# Seconds that drawing the report takes on two free cores: of any, and for each image of the test.
REPORT = (30.0, 2e-3)
# Seconds for each image of the test in the table of what is found, and of the validation in the choice of a re-ranking.
TABLE, CHOOSING = 2e-3, 3e-3


def settle_precision(config: Config) -> None:
    """What `precision` auto is here."""
    if config.precision == "auto":
        wanted = config.minutes and config.device in ("auto", "cuda", "gpu")
        config.precision = "bf16" if wanted and torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32"


def settle(config: Config, items: Items, since: float, fabric: Fabric) -> float:
    """Sets what is left open in the options of a run: by the data, and with `minutes` by what was measured.

    Args:
        config: is changed.
        items: with their splits.
        since: when the run began, as of `time.perf_counter`.
        fabric: the first of its processes measures, and tells the others.

    Returns:
        Seconds that the run takes after its last embedding, 0 without `minutes`.

    Raises:
        UserError: `minutes` for a task other than image.
    """
    if config.minutes and config.task != "image":
        raise UserError(f"--minutes plans for --task image; with --task {config.task} give --steps")
    encoder, ending = config.encoder, 0.0
    if fabric.is_global_zero and config.task.startswith("image"):
        fixed = 0 if encoder.size else own_size(encoder.name)
        encoder.size = encoder.size or fixed
        if config.minutes:
            ending = _planned(config, items, since, fabric.device)
        elif fixed or not encoder.size:
            _sized(config, items, fabric.device)
    if encoder.tune == "auto":
        encoder.freeze = encoder.frozen
    chosen = (encoder.size, encoder.freeze, vars(config.batch), config.steps, config.validate_every)
    (encoder.size, encoder.freeze, batch, config.steps, config.validate_every), config.views.choose = fabric.broadcast(
        (chosen, config.views.choose)
    )
    vars(config.batch).update(batch)
    return ending


def _sized(config: Config, items: Items, device: torch.device) -> None:
    """The size that the backbone is built for, which the options hold then, or that follows the images; and how long a
    run of larger images will take."""
    fixed, side = config.encoder.size, median_side(items)
    size = config.encoder.size = fixed or usual_size(config, items, device.type == "cuda")
    if not fixed and (with_texts(config.task) or size <= size_for(0)):
        return
    facts = _facts(config, items, 0.0, device)
    facts = _with_speed(facts, config, size, device)
    batch = (config.batch.classes or config.usual_batch[0]) * (config.batch.samples or config.usual_batch[1])
    seconds = expected(facts, size, config.encoder.frozen, min(batch, facts.train), config.steps, 8)
    trained = f"{size} px are trained on (--encoder.size)"
    if fixed:
        trained = f"{config.encoder.name!r} is built for {size} px and trained at that (--encoder.size)"
    cure = "" if with_texts(config.task) else "; --minutes says how long it may take"
    say(f"images of about {side} px: {trained}, which takes about {duration(seconds)} here{cure}")


def _planned(config: Config, items: Items, since: float, device: torch.device) -> float:
    """The plan of a run with `minutes`, in three lines before it starts."""
    encoder, batch, total = config.encoder, config.batch, 60 * config.minutes
    facts = measured(config, items, total - (time.perf_counter() - since), device)
    facts = replace(facts, seconds=total - (time.perf_counter() - since))
    made = plan(
        facts,
        size=encoder.size,
        freeze=encoder.freeze if encoder.tune == "auto" else encoder.frozen,
        classes=batch.classes,
        samples=batch.samples,
        steps=config.steps if config.steps != Config.steps else 0,
        validate_every=config.validate_every,
    )
    encoder.size, batch.classes, batch.samples = made.size, made.classes, made.samples
    if encoder.tune == "auto":
        encoder.freeze = made.freeze
    config.steps, config.validate_every = made.steps, made.validate_every
    for sentence in _sentences(facts, made):
        say(sentence)
    viewing = _viewing(config, facts)
    if viewing > VIEWING * total:
        config.views.choose, viewing = "none", 0.0
    if made.seconds > 1.1 * facts.seconds:
        say(f"{config.minutes:g} minutes are too few: about {duration(made.seconds)} are needed even for this")
    return facts.ending + viewing


def _viewing(config: Config, facts: Facts) -> float:
    """Seconds that choosing and testing the views take."""
    own = config.views
    if own.choose == "none" and not (own.query or own.gallery):
        return 0.0
    images = passes(CANDIDATES, facts.validation, facts.test, own.query_cost, own.gallery_cost)
    return images * seconds_at(facts.forward, config.encoder.size)


def _sentences(facts: Facts, made: Plan) -> list[str]:
    """What is trained on, how, and when it is done."""
    untrained = ", ".join(f"{value:.3f} at {size} px" for size, value in facts.untrained.items())
    end = datetime.now() + timedelta(seconds=made.seconds)
    return [
        f"{facts.images:,} images of {facts.classes:,} classes, about {facts.side} px"
        + (f"; MAP@R of the untrained backbone {untrained}" if untrained else ""),
        f"{made.size} px, {made.steps:,} steps of {made.classes} x {made.samples}, a validation after each "
        f"{made.validate_every:,}" + ("; the backbone is frozen: features are computed once" if made.freeze else ""),
        f"done at {end:%H:%M}; should a step take longer or less, there will be fewer or more",
    ]


def measured(config: Config, items: Items, seconds: float, device: torch.device) -> Facts:
    """Looks at the items of a run that has so many seconds, and takes a few steps of it."""
    wall, own = time.perf_counter(), time.thread_time()
    facts = _facts(config, items, seconds, device)
    sizes = candidates(facts, config.encoder.size)
    for size in sorted({sizes[0], sizes[-1]}):
        facts = _with_speed(facts, config, size, device)
    if len(sizes) > 1:
        facts = _with_untrained(facts, config, items.split("train"), sizes, device)
    busy = (time.perf_counter() - wall) / max(time.thread_time() - own, 1e-9)
    return replace(facts, ending=max(1.0, busy) * facts.ending)  # what else the machine does slows that down too


def _facts(config: Config, items: Items, seconds: float, device: torch.device) -> Facts:
    """What is known without a model."""
    splits = {name: items.split(name) for name in ("train", "validation", "test")}
    train = splits["train"]
    sizes, rows = train.table["label"].value_counts(), _drawn(train, DECODED)
    whole, ahead = (_seconds(partial(squares, train, 224, each, rows)) / len(rows) / cores() for each in (True, False))
    fixed, each = REPORT if config.report else (0.0, 0.0)
    choosing = CHOOSING * len(splits["validation"]) if named_rerank(config.rerank) is None else 0.0
    return Facts(
        images=len(items),
        classes=items.table["label"].nunique(),
        train=len(train),
        validation=len(splits["validation"]),
        test=len(splits["test"]),
        train_classes=len(sizes),
        samples=int(sizes.max()),
        side=median_side(items),
        seconds=seconds,
        decode=whole,
        decode_ahead=ahead,
        ending=fixed + (each + TABLE * config.table) * len(splits["test"]) + choosing,
        gpu=device.type == "cuda",
    )


def _drawn(items: Items, count: int) -> list[int]:
    """Up to so many rows of whole classes, always the same ones."""
    rows = items.table.reset_index(drop=True).groupby("label").indices
    classes = np.random.default_rng(0).permutation(sorted(rows))
    drawn = np.concatenate([rows[label] for label in classes])[:count]
    return [int(row) for row in drawn]


def _with_speed(facts: Facts, config: Config, size: int, device: torch.device) -> Facts:
    """What an image costs at a size: forward, a step, and a step of the head alone."""
    encoder, count = image_encoder(config, size).to(device), BATCH[facts.gpu]
    criterion, labels = Criterion("contrastive").to(device), torch.arange(count, device=device) // 2
    images = torch.randn(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.0)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def step(inputs: Tensor, embed: Callable[[Tensor], Tensor]) -> None:
        with autocast:
            embeddings = embed(inputs)
        loss = criterion(embeddings.float(), labels)
        if loss.requires_grad:  # with the head none nothing learns where the backbone is frozen
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(device)

    def forward() -> Tensor:
        with evaluating(encoder), torch.no_grad(), autocast:
            features = encoder.features(images)
        _wait(device)
        return features

    whole = _seconds(partial(step, images, encoder))
    head = _seconds(partial(step, forward().float(), encoder.from_features))
    return replace(
        facts,
        forward={**facts.forward, size: _seconds(forward) / count},
        step={**facts.step, size: whole / count},
        head=head / count,
        start=start_rows(config, encoder, facts.train),
    )


def _with_untrained(facts: Facts, config: Config, items: Items, sizes: tuple[int, ...], device: torch.device) -> Facts:
    """MAP@R of the untrained backbone at each size, as far as that takes `LOOKING` of the time."""
    left, untrained = LOOKING * facts.seconds, dict[int, float]()
    one = sum(facts.decode * cores() + seconds_at(facts.forward, size) for size in sizes)
    few, many = SEARCHED
    items = items.select(_drawn(items, max(few, min(int(left / one), many))))
    for size in sizes:
        since, encoder = time.perf_counter(), image_encoder(config, size).to(device)
        view, rows = encoder.preprocessing, list(range(len(items)))
        with evaluating(encoder), torch.inference_mode():
            chunks = (
                normalise(squares(items, size, True, rows[at : at + 32], view.fit).to(device), view.mean, view.std)
                for at in rows[::32]
            )
            features = torch.cat([encoder.pooled(encoder.features(chunk)).float().cpu() for chunk in chunks])
        untrained[size] = evaluate(features, items.labels, nmi=False, neighbours=0).metrics["map@r"]
        seconds, larger = time.perf_counter() - since, min((each for each in sizes if each > size), default=size)
        left -= seconds
        if left < seconds + len(items) * (seconds_at(facts.forward, larger) - seconds_at(facts.forward, size)):
            break
    return replace(facts, untrained=untrained)


def _seconds(work: Callable[[], object]) -> float:
    """Of the faster of two calls after a first one, which is not counted."""
    taken = []
    for _ in range(3):
        since = time.perf_counter()
        work()
        taken.append(time.perf_counter() - since)
    return min(taken[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
