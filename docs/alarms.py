"""What the doctor says of small runs: healthy ones, and ones made sick on purpose, each with the cure it should name.

    python docs/alarms.py FOLDER

FOLDER takes the runs; those that are there already are read again, with the thresholds of today. On data that need no
download: emoji, characters in the fonts of matplotlib, and Fashion-MNIST. The table is that of docs/doctor.md.
"""

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import pullpush
from pullpush.data.images import ImageDataset
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.doctor.declaration import Finding
from pullpush.doctor.findings import FINDINGS
from pullpush.errors import UserError
from pullpush.evaluation import embed
from pullpush.reports import diagnose_run
from pullpush.training import train

SEEDS, SICK_SEEDS = (0, 1), (0,)
CHARACTERS = [*range(48, 58), *range(65, 91), *range(97, 123), *range(0x3B1, 0x3CA)]
Change = Callable[[Items, Path], Items]


@dataclass(frozen=True)
class Setting:
    """A way to train.

    Attributes:
        name: of its runs.
        options: of a run, beside those of `SMALL`.
        found: what is to be found; nothing in healthy runs.
        cure: that its advice has to name.
        items: a change of the data, with a folder for new images.
        step: done after each step of the optimiser.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    cure: str = ""
    items: Change | None = None
    step: Callable[[Any, int], None] | None = None


SMALL = {
    "encoder.freeze": True,
    "encoder.size": 32,
    "encoder.dim": 32,
    "batch.classes": 16,
    "batch.samples": 3,
    "steps": 80,
    "validate_every": 10,
    "checkpoint_every": 200,
    "data.check": False,
    "report": False,
    "tensorboard": False,
    "nmi": False,
    "views.choose": "none",
    "rerank": "none",
    "table": False,
    # What training did shows in the test, whatever else would be kept.
    "gate": False,
    "on_collapse": "warn",
    "average.ema": 0,
    "average.blend": False,
}
TUNED = {"encoder.freeze": False, "encoder.augment": False, "batch.classes": 8, "steps": 24, "validate_every": 4}
TEXT = {"task": "image-text", "encoder.dropout": 0.0, "encoder.dim": 64, "batch.samples": 1, "batch.classes": 32}


def loss(name: str, **options: Any) -> dict[str, Any]:
    return {"loss": {"name": name, **options}}


HEALTHY = [
    *(Setting(name, loss(name)) for name in ("multi_similarity", "triplet", "nt_xent", "circle", "proxy_anchor")),
    Setting("memory", {**loss("contrastive"), "memory.size": 0.5, "memory.start_step": 10}),
    Setting("tuned", TUNED),
    Setting("tuned_memory", {**TUNED, **loss("contrastive"), "memory.size": 0.5, "memory.start_step": 10}),
    Setting("texts", TEXT),
]


def shuffled(items: Items, folder: Path) -> Items:
    """Training labels that belong to other images."""
    label, rows = items.table["label"].to_numpy().copy(), np.flatnonzero(items.table["split"] == "train")
    label[rows] = np.random.default_rng(0).permutation(label[rows])
    return items.assign(label=label)


def twice(items: Items, folder: Path) -> Items:
    """Each image again, under another label."""
    table, count = items.table, len(items.classes)
    again = table.assign(label=table["label"] + count, id=table["id"] + 1 + table["id"].max())
    return Items(
        type(table)(np.concatenate([table, again]), columns=table.columns).astype(table.dtypes),
        [*items.classes, *(f"{name} again" for name in items.classes)],
        items.name,
    )


def single(items: Items, folder: Path) -> Items:
    """One item of each test class."""
    table = items.table
    return items.select(~((table["split"] == "test") & table.duplicated("label")).to_numpy())


def framed(items: Items, folder: Path) -> Items:
    """Images that are hardly seen, within a frame of their class's two colours."""
    rng = np.random.default_rng(0)
    colors, checks = rng.integers(0, 256, (len(items.classes), 2, 3), np.uint8), (np.indices((80, 80)) // 8).sum(0) % 2
    folder, paths = folder / f"{items.name}-framed", list[str]()
    folder.mkdir(exist_ok=True)
    for row, label in enumerate(items.table["label"]):
        pixels = colors[label][checks]
        pixels[12:68, 12:68] = 255 - 0.03 * (255 - np.asarray(items.open(row).resize((56, 56)), np.float64))
        paths.append(str(folder / f"{row}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return items.assign(path=paths)


def head_of(run: Any) -> torch.nn.Parameter:
    """The weight that makes the embeddings."""
    return next(p for name, p in run.task.encoder.named_parameters() if name.startswith("head") and p.ndim == 2)


def silent(run: Any, step: int) -> None:
    for parameter in run.task.encoder.head.parameters():
        parameter.data[:8] = 0


def loud(run: Any, step: int) -> None:
    head_of(run).data[0] *= 30 / head_of(run).data[0].norm()


def broken(run: Any, step: int) -> None:
    if step == 23:
        head_of(run).data[0, 0] = float("nan")


def _tuned(rate: float, **options: Any) -> dict[str, Any]:
    return {**TUNED, "optimizer.lr": rate, **options}


FEW_TRAINED = {"data.test": 0.05, "data.validation": 0.85, "batch.classes": 4}
SICK = [
    Setting(
        "hard_triplets",
        {**loss("triplet", kind="hard", average="all"), "encoder.head": "mlp", "optimizer.lr": 1e-2},
        ("near_collapse",),
        "--loss.kind semihard",
    ),
    Setting(
        "bare_cosines",
        {**loss("n_pair", temperature=1.0), "similarity": "cosine", "optimizer.lr": 5e-3},
        ("temperature_too_high", "loss_at_floor"),
        "--loss.temperature 0.07",
    ),
    Setting("sharp", loss("nt_xent", temperature=0.003), ("temperature_too_low",), "--loss.temperature 0.07"),
    Setting(
        "wrong_labels",
        {**loss("nt_xent", temperature=0.5), "optimizer.lr": 1e-5},
        ("loss_at_chance",),
        "labels",
        items=shuffled,
    ),
    Setting("large_rate", {"optimizer.lr": 3.0}, ("learning_rate_too_high",), "--optimizer.lr"),
    Setting(
        "tiny_margin",
        {**loss("triplet", margin=0.001), "batch.classes": 2, "optimizer.lr": 5e-3},
        ("no_active_triplet",),
        "--loss.margin",
    ),
    Setting("strict_miner", {"miner": {"name": "angular", "degrees": 89.0}}, ("miner_leaves_nothing",), "--miner none"),
    Setting("one_a_class", {"batch.samples": 1}, ("no_positives",), "--batch.samples"),
    Setting("two_labels", {}, ("false_negatives",), "one label", items=twice),
    Setting("silent", {}, ("dead_dimensions",), "--encoder.dim", step=silent),
    Setting("loud", {}, ("dominating_dimension",), "--optimizer", step=loud),
    Setting("broken", {}, ("not_finite",), "--optimizer.lr", step=broken),
    Setting(
        "all_alike",
        {**loss("triplet", kind="hard", average="all", margin=0.5), "encoder.head": "mlp", "optimizer.lr": 1e-2},
        ("triplet_at_margin",),
        "--loss.kind semihard",
    ),
    # Such a decay forgets within ten steps what was learned, and labels that are wrong give nothing to keep.
    Setting(
        "old_memory",
        {
            **loss("nt_xent"),
            "encoder.head": "mlp",
            "memory.size": 1.0,
            "memory.combine": "joint",
            "memory.compensate": "none",
            "memory.tolerance": 0.0,
            "batch.classes": 8,
            "optimizer.lr": 3e-2,
            "optimizer.weight_decay": 10.0,
        },
        ("stale_memory",),
        "--memory.start_step",
        items=shuffled,
    ),
    Setting(
        "shut_memory",
        {
            **loss("nt_xent"),
            "encoder.head": "mlp",
            "memory.size": 1.0,
            "memory.tolerance": 0.1,
            "batch.classes": 8,
            "optimizer.lr": 3e-2,
            "optimizer.weight_decay": 10.0,
        },
        ("shut_memory",),
        "--optimizer.lr",
        items=shuffled,
    ),
    Setting("fast", _tuned(5e-3), ("collapse",), "--optimizer.lr"),
    Setting(
        "harm",
        {"encoder.head": "mlp", "optimizer.lr": 2e-2, "validate_every": 80},
        ("no_gain", "worse_than_start"),
        "--optimizer.lr",
        items=shuffled,
    ),
    Setting(
        "few_trained",
        {**loss("nt_xent"), **FEW_TRAINED, "encoder.head": "mlp", "optimizer.lr": 5e-3},
        ("over_fitting",),
        "--steps",
    ),
    Setting("framed", {"encoder.size": 64}, ("border_decides",), "crop the images", items=framed),
    Setting("too_short", {"steps": 1, "batch.classes": 2}, ("classes_never_drawn",), "--steps"),
    Setting("no_positive", {}, ("evaluation_without_positives",), "label the items", items=single),
    Setting("random", {"encoder.weights": "none"}, ("weights_not_loaded",), "--encoder.weights auto"),
    Setting(
        "apart",
        {**TEXT, "loss": {"name": "n_pair", "temperature": 0.02}, "optimizer.lr": 1e-6},
        ("modality_gap",),
        "--steps",
    ),
]


def emoji(folder: Path) -> Items:
    """The images of 100 names, with these as texts."""
    items = open_items("emoji")
    few = np.random.default_rng(0).permutation(len(items.classes))[:100]
    return items.select(items.table["label"].isin(few).to_numpy())


def characters(folder: Path) -> Items:
    """Letters and digits in the fonts that matplotlib brings; the name of the character is its text."""
    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVuS*[!y].ttf"))[:8]
    rows = []
    for code in CHARACTERS:
        for font in fonts:
            path = folder / "characters" / f"{code}-{font.stem}.png"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                image = Image.new("RGB", (48, 48), "white")
                ImageDraw.Draw(image).text((24, 24), chr(code), "black", ImageFont.truetype(str(font), 32), anchor="mm")
                image.save(path)
            rows.append((str(path), f"{code}", [unicodedata.name(chr(code)).lower()]))
    paths, names, texts = zip(*rows, strict=True)
    return Items.build("characters", paths, names, text=texts)


def clothes(folder: Path) -> Items:
    """Forty images of each of the ten classes of Fashion-MNIST."""
    items = open_items("fashion-mnist")
    rows = np.concatenate([np.flatnonzero(items.labels.numpy() == label)[:40] for label in range(10)])
    few = items.select(np.sort(rows))
    return few.assign(text=[[few.classes[label].lower()] for label in few.table["label"]])


DATA = (emoji, characters, clothes)


def run_of(folder: Path, setting: Setting, items: Items, seed: int) -> Path | None:
    """The folder of a run; None where its data do not allow it."""
    out = folder / f"{items.name}-{setting.name}-{seed}"
    options = {**SMALL, "data.test": 0.4, "data.validation": 0.2, **setting.options}
    shares = {name: options[f"data.{name}"] for name in ("test", "validation")}
    parts = split_by_class(items, seed=seed, **shares)
    trained = parts.split("train").table["label"].nunique()
    options["batch.classes"] = min(options["batch.classes"], trained)
    if trained < 2:
        return None
    if not (out / "findings.jsonl").exists():
        shutil.rmtree(out, ignore_errors=True)
        steps = [setting.step] if setting.step else []
        try:
            train(
                items=setting.items(parts, folder) if setting.items else parts,
                out=str(out),
                seed=seed,
                quiet=True,
                callbacks=steps,
                **options,
            )
        except UserError as error:
            print(f"{out.name}: {error}", file=sys.stderr)
    return out


def runs_of(
    folder: Path, settings: list[Setting], seeds: tuple[int, ...]
) -> Iterator[tuple[Setting, str, list[Finding], float]]:
    """Each setting with its data, its findings, and what MAP@R (or recall@1 by text) gained on the test classes."""
    for read in DATA:
        items = read(folder)
        for setting in settings:
            for seed in seeds:
                out = run_of(folder, setting, items, seed)
                if out is not None:
                    yield setting, out.name, diagnose_run(out).findings, gain_of(out)


def features_of(items: Items) -> list[Finding]:
    """What is found in features as the backbone gives them, to a loss that compares their lengths too."""
    encoder = pullpush.ImageEncoder(size=SMALL["encoder.size"], head="none", normalize=False)
    prepared = encoder.preprocessing
    images = ImageDataset(items, prepared.transform)
    features, labels, ids = embed(encoder, images)
    return pullpush.diagnose(features, labels, ids, loss="n_pair")


def gain_of(run: Path) -> float:
    path = run / "metrics.json"
    test = json.loads(path.read_text())["test"] if path.exists() else {}
    name = "text_to_image/recall@1" if "text_to_image/recall@1" in test.get("after", {}) else "map@r"
    return test["after"].get(name, np.nan) - test["before"].get(name, np.nan) if test else np.nan


def main() -> None:
    folder = Path(sys.argv[1])
    alarms: dict[str, list[str]] = {name: [] for name in FINDINGS}
    caught: dict[str, list[bool]] = {name: [] for name in FINDINGS}
    better = worse = 0
    for _, name, found, gain in runs_of(folder, HEALTHY, SEEDS):
        # What training did harm is not healthy, whatever was wanted of it.
        better, worse = better + (gain > 0), worse + (gain <= 0)
        for finding in found if gain > 0 else []:
            alarms[finding.finding].append(name)
            print(f"{name} ({gain:+.3f}): {finding}", file=sys.stderr)
        if gain <= 0:
            print(f"{name} ({gain:+.3f}): {[each.finding for each in found]}", file=sys.stderr)
    for setting, name, found, _ in runs_of(folder, SICK, SICK_SEEDS):
        for wanted in setting.found:
            # What explains a finding takes its place.
            names = {wanted, *(name for name, each in FINDINGS.items() if wanted in each.hides)}
            hit = any(each.finding in names and setting.cure in each.advice.lower() for each in found)
            caught[wanted].append(hit)
            print(f"{name}: {wanted} {'caught' if hit else 'MISSED'} {[str(each) for each in found]}", file=sys.stderr)
    for read in DATA:
        found = features_of(read(folder))
        caught["not_normalised"].append(any("--similarity cosine" in each.advice for each in found))
        print(f"features: {[str(each) for each in found]}", file=sys.stderr)
    print(f"{better} healthy runs ({worse} more ended no better than they began)\n")
    print("| finding | healthy, alarmed | made sick, caught with the cure |\n| --- | --- | --- |")
    for name in FINDINGS:
        sick = f"{sum(caught[name])} of {len(caught[name])}" if caught[name] else "–"
        print(f"| `{name}` | {len(alarms[name])} of {better} | {sick} |")


if __name__ == "__main__":
    main()
