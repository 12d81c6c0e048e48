"""The model card: README.md of an export."""

from importlib.metadata import version
from typing import Any

from pullpush.encoders.model import Model
from pullpush.encoders.pretrained import is_library_name, short_name
from pullpush.export.check import Check
from pullpush.export.transformers import output_of
from pullpush.runs.reader import Missing, RunFolder, or_else

__all__ = ["card"]

SHOWN = ("recall@1", "recall@10", "map@r", "r_precision")

GRAPH = """\
`image{suffix}` takes float32 `[n, 3, {size}, {size}]`, values 0 to 1 in RGB: {fit}, resized
({resample}, antialiased). The normalisation is inside; embeddings have {dim} dimensions and length 1. `preprocess` of
the pullpush model makes that input; without pullpush:

```python
import numpy as np
from PIL import Image

def preprocess(path):
    image = Image.open(path).convert("RGB")
{crop}    image = image.resize(({size}, {size}), Image.Resampling.{RESAMPLE}{box})
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255

images = np.stack([preprocess("cat.png")])
{code}
```
"""
SQUARES = (
    "Images that are not square are cut a little otherwise than in training: give the central square where each digit "
    "counts.\n"
)
CROP = """\
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
"""
CODE = {
    "onnx": """\
import onnxruntime

session = onnxruntime.InferenceSession("image.onnx")
embeddings = session.run(None, {"images": images})[0]""",
    "openvino": """\
import openvino

model = openvino.Core().compile_model("image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
embeddings = model(images)[0]""",
    "torch": """\
import torch

model = torch.export.load("image.pt2").module()
embeddings = model(torch.from_numpy(images)).detach().numpy()""",
    "sentence-transformers": """\
```python
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
embeddings = model.encode([{given}])
```

"""
    + SQUARES,
    "hf": """\
```python
import timm
import torch

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
embeddings = torch.nn.functional.normalize(model(torch.stack([transform(image)])))
```

"""
    + SQUARES,
}

TOGETHER = {
    "onnx": ", and all read their weights from `image.onnx.data`",
    "openvino": ", and all read their weights from `image.bin`: `read_model('image-SIZE.xml', 'image.bin')`",
}

JOINT = """\
```python
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model, processor = AutoModel.from_pretrained("FOLDER").eval(), AutoProcessor.from_pretrained("FOLDER")
with torch.inference_mode():
    images = model.get_image_features(**processor(images=Image.open("cat.png"), return_tensors="pt")).pooler_output
    texts = model.get_text_features(**processor(text=["a cat"], padding=PADDING, return_tensors="pt")).pooler_output
images, texts = (torch.nn.functional.normalize(each) for each in (images, texts))
```

"""
TOWER = """\
```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, KIND

model, processor = KIND.from_pretrained("FOLDER").eval(), AutoImageProcessor.from_pretrained("FOLDER")
with torch.inference_mode():
    embeddings = model(**processor(Image.open("cat.png"), return_tensors="pt")).OUTPUT.flatten(1)
embeddings = torch.nn.functional.normalize(embeddings)
```

"""
LIMITS = """\
For finding and comparing images of the kind that it was trained on. A cosine is no probability, and where the line \
between same and different lies depends on the collection (`pullpush verify`). It has not been tested for decisions \
about people, and it carries whatever is uneven in its training images and in the weights that it began with; their \
licences hold for it too.
"""


def card(model: Model, to: str, int8: bool, run: RunFolder | None, check: Check, kind: str | None = None) -> str:
    """README.md: what it is, how it is used, what it finds, on what it was trained, and what it is not for.

    Args:
        kind: the class of transformers that reads it, where that library does.
    """
    name = run.name if run else short_name(model.source) or "a pullpush model"
    return "\n".join(
        [
            _front(model, to, kind),
            f"# {name}\n",
            f"An embedding model of {' and '.join(f'{kind}s' for kind in model.encoders)}: what is alike lies close, "
            f"by cosine. Trained and exported with pullpush {version('pullpush')}, fingerprint "
            f"`{model.fingerprint[:16]}`.\n",
            "## Use\n",
            _of_transformers(model, kind) if kind else _use(model, to),
            "## What it finds\n",
            _found(run),
            _compared(to, int8, check),
            "## Trained on\n",
            _trained(run, model),
            "## Intended use, and limits\n",
            LIMITS,
        ]
    )


def _of_transformers(model: Model, kind: str) -> str:
    if model.text is None:
        return TOWER.replace("KIND", kind).replace("OUTPUT", output_of(kind)) + SQUARES
    return JOINT.replace("PADDING", repr(model.text.backbone.padding)) + SQUARES


def _front(model: Model, to: str, kind: str | None) -> str:
    of_hub = "transformers" if kind else "timm"
    library = {"sentence-transformers": "sentence-transformers", "hf": of_hub, "onnx": "onnx"}.get(to)
    lines = ["---", *([f"library_name: {library}"] if library else []), "pipeline_tag: feature-extraction", "tags:"]
    tags = ["pullpush", "metric-learning", "embeddings", *(f"{kind}-retrieval" for kind in model.encoders)]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---", ""])


def _use(model: Model, to: str) -> str:
    own = model.preprocessing
    if to == "sentence-transformers":
        given = ", ".join(
            ['Image.open("cat.png")'] * ("image" in model.encoders) + ['"a cat"'] * ("text" in model.encoders)
        )
        return CODE[to].replace("{given}", given)
    if to == "hf":
        return CODE[to]
    suffix = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}[to]
    how, _, resample = own.fit.partition(" ")
    resample, crop = resample or "bicubic", how == "crop"
    text = GRAPH.format(
        suffix=suffix,
        size=own.size,
        dim=model.dim,
        code=CODE[to],
        fit="the central square of an image" if crop else "an image, whatever its aspect",
        resample=resample,
        RESAMPLE=resample.upper(),
        crop=CROP if crop else "",
        box=", box=(left, top, left + side, top + side)" if crop else "",
    )
    if model.text is not None:
        text += (
            f"\n`text{suffix}` takes what the tokenizer in `tokenizer/` gives (`transformers.AutoTokenizer`), padded.\n"
        )
    if not model.views.plain:
        views = model.views.values()
        text += (
            "\nThe model's own search sees an image in several views and takes the mean, which finds more (query: "
            f"{', '.join(views['query'])}; gallery: {', '.join(views['gallery'])} times the size). "
            f"`image-SIZE{suffix}` are for those{TOGETHER.get(to, '')}.\n"
        )
    return text


def _found(run: RunFolder | None) -> str:
    metrics: dict[str, Any] = or_else(lambda: run.metrics, {}) if run else {}
    test = metrics.get("test") or {}
    before, after = test.get("before") or {}, test.get("after") or {}
    rows = [name for name in SHOWN if isinstance(after.get(name), float)]
    if not rows:
        return "No test of it is on record.\n"
    assert run is not None
    table = ["| | before training | after |", "| --- | --- | --- |"]
    for name in rows:
        first = "" if before.get(name) is None else f"{before[name]:.3f} "
        table.append(f"| {name} | {first}| {after[name]:.3f} |")
    what = or_else(lambda: f"{len(run.split('test')):,} images of {run.queried}", "the test")
    return f"On {what}, each compared with all others:\n\n" + "\n".join(table) + "\n"


def _compared(to: str, int8: bool, check: Check) -> str:
    of = {"test": "test images", "train": "training images", "noise": "noise"}[check.images]
    cosines = ", ".join(f"{kind}s {value:.5f}" for kind, value in check.cosine.items())
    bits = " in eight bits" if int8 else ""
    text = f"This export ({to}{bits}) was compared with the model, by {of}: least cosine of {cosines}."
    if check.recall is not None and check.recall_of_model is not None:
        text += f" Test recall@1 {check.recall:.4f}, the model {check.recall_of_model:.4f}."
    return text + "\n"


def _trained(run: RunFolder | None, model: Model) -> str:
    if run is None and is_library_name(model.source):
        return f"It was not trained by pullpush: these are the weights of `{model.source}`.\n"
    if run is None:
        return "The run that made the model is not known.\n"
    try:
        config, items = run.config, run.split("train")
    except Missing:
        return "The run that made the model is not whole.\n"
    data, loss, encoder = (config.get(name) or {} for name in ("data", "loss", "encoder"))
    classes = items.table["label"].nunique()
    return (
        f"{len(items):,} images of {classes:,} classes (`{data.get('source')}`), {config.get('steps')} steps with the "
        f"loss `{loss.get('name')}`, from the backbone `{encoder.get('name')}` at {encoder.get('size')} pixels.\n"
    )
