"""Images with descriptions: two towers trained on real images, end to end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pullpush
from pullpush import search
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.encoders import View, Views
from pullpush.errors import UserError
from pullpush.evaluation import evaluate_image_text, evaluate_items
from pullpush.maths.pairs import make_pairs
from pullpush.maths.relations import same_text
from pullpush.runs.checkpoint import load_checkpoint
from pullpush.runs.log import read_log
from pullpush.runs.options import config_from
from pullpush.runs.reader import RunFolder
from pullpush.training import train, views
from pullpush.training.loop import make_items
from pullpush.training.step import OTHER_IDS
from pullpush.training.task import Task

Options = dict[str, Any]
VIEWS = {"query": ["1.5"], "gallery": ["1", "1.25 flip"]}
WAYS = ("text_to_image", "image_to_text")


@pytest.fixture(scope="module")
def described(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of the eight classes: one or two descriptions an image."""
    items = open_items(photos)
    names = [items.classes[label] for label in items.table["label"]]
    texts = [name if row % 2 else f"{name}|an image of {name}" for row, name in enumerate(names)]
    manifest = tmp_path_factory.mktemp("described") / "items.csv"
    pd.DataFrame({"path": items.table["path"], "label": names, "text": texts}).to_csv(manifest, index=False)
    return manifest


@pytest.fixture(scope="module")
def pairs(small: Options, described: Path, transformer: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Options of a run of seconds; the features are computed once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLPUSH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield {
            **small,
            "task": "image-text",
            "data": {**small["data"], "source": str(described)},
            "batch": {"classes": 4, "samples": 2},
            "text": {"name": transformer},
        }


@pytest.fixture(scope="module")
def finished(pairs: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(**pairs | {"views": VIEWS}, out=str(tmp_path_factory.mktemp("runs") / "whole"), quiet=True)


def task_of(options: Options, items: Items | None = None) -> Task:
    config = config_from(options)
    items = items or open_items(config.data.source)
    return Task(config, make_items(config.data, config.seed, lambda sentence: None, items))


def without_dropout(options: Options) -> Options:
    return {**options, **{side: {**options[side], "dropout": 0.0} for side in ("encoder", "text")}}


def test_run_folder_holds_both_sides(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    for found in (*(metrics["test"][when] for when in ("before", "after", "views")), metrics["validation"]):
        for way in WAYS:
            assert {f"{way}/recall@{k}" for k in (1, 5, 10)} | {
                f"{way}/median_rank",
                f"{way}/mean_rank",
            } <= found.keys()
    gain = metrics["gain"]
    assert (gain["metric"], gain["classes"]) == ("text_to_image/recall@1", 2)
    first = next(line for line in read_log(finished / "log.jsonl") if "validation/recall@1" in line)
    assert gain["start"] == pytest.approx(first["validation/text_to_image/recall@1"])
    texts = pd.read_parquet(finished / "texts.parquet")
    items = Items.load(finished / "items.parquet")
    for split, when in (("test", "before"), ("test", "after"), ("validation", "after"), ("train", "after")):
        images = np.load(finished / "embeddings" / f"{split}-{when}.npy")
        words = np.load(finished / "embeddings" / f"{split}-{when}-text.npy")
        own = texts[texts["split"] == split]
        assert len(images) == len(items.split(split))
        assert len(words) == len(own) == 2 * items.split(split).labels.unique().numel()
        if split == "test":
            again = evaluate_image_text(images, items.split(split).labels, words, own["label"].to_numpy()).metrics
            assert again.items() <= metrics["test"][when].items()
    lines = read_log(finished / "log.jsonl")
    assert all("train/duplicates" in line for line in lines if "train/loss" in line)
    assert any("validation/text_to_image/recall@10" in line for line in lines)


def test_the_model_embeds_images_and_texts_as_the_run_did(finished: Path) -> None:
    model, texts = pullpush.load(finished), pd.read_parquet(finished / "texts.parquet")
    test = Items.load(finished / "items.parquet").split("test")
    folder = finished / "embeddings"
    model.views = Views()
    images = model.embed([test.path(row) for row in range(len(test))])
    np.testing.assert_allclose(images, np.load(folder / "test-after.npy"), atol=1e-4)
    words = model.embed_text(list(texts[texts["split"] == "test"]["text"]))
    np.testing.assert_allclose(words, np.load(folder / "test-after-text.npy"), atol=1e-4)


def test_texts_find_the_views_of_the_gallery_and_images_ask_in_those_of_a_query(finished: Path, tmp_path: Path) -> None:
    metrics, model = json.loads((finished / "metrics.json").read_text()), pullpush.load(finished)
    assert model.views.values() == {name: metrics["views"][name] for name in VIEWS} == VIEWS
    items = Items.load(finished / "items.parquet").split("test")
    queries, gallery = model.embed_both([items.path(row) for row in range(len(items))])
    words = np.load(finished / "embeddings" / "test-after-text.npy")
    texts = RunFolder(finished).texts("test")
    found = evaluate_image_text(gallery, items.labels, words, texts["label"].to_numpy(), queries=queries)
    assert metrics["test"]["views"] == pytest.approx(
        found.metrics | evaluate_items(gallery, items, queries=queries, nmi=False).metrics
    )
    for way in WAYS:
        saved, same = RunFolder(finished).cross_modal("test", "views", way), getattr(found, way)
        np.testing.assert_array_equal(saved.neighbours.indices[:, 0], same.neighbours.indices[:, 0])

    index = tmp_path / "index"
    search.build_index(finished, items, index, projection="none")
    engine = search.open(index)
    hits = engine.query(text=texts["text"].iat[0], k=len(items))
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(gallery @ words[0])[::-1], atol=1e-5)
    hits = engine.query(image=items.path(0), k=len(items))
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(gallery @ queries[0])[::-1], atol=1e-5)


def test_views_are_chosen_by_what_texts_find(pairs: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ERRORS", -1e9)  # whatever is best
    monkeypatch.setattr(views, "CANDIDATES", (View(), View(1.5), View(1.5, flip=True)))
    options = pairs | {"views": "auto", "steps": 3, "validate_every": 3, "seed": 1}
    run = train(**options, out=str(tmp_path / "run"), quiet=True)
    metrics, model = json.loads((run / "metrics.json").read_text()), pullpush.load(run)
    gain = metrics["views"]["gain"]
    assert gain["metric"] == "text_to_image/recall@1"
    items, texts = Items.load(run / "items.parquet").split("validation"), RunFolder(run).texts("validation")
    words = model.embed_text(list(texts["text"]))
    gallery = model.embed([items.path(row) for row in range(len(items))])
    found = evaluate_image_text(gallery, items.labels, words, texts["label"].to_numpy()).metrics
    assert found[gain["metric"]] == pytest.approx(gain["trained"])
    assert gain["trained"] > gain["start"]  # with this seed
    assert metrics["test"]["views"].keys() == metrics["test"]["after"].keys() - {"nmi"}


def test_resumed_ends_as_the_uninterrupted_run(pairs: Options, finished: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if step == 8:
            raise Enough

    with pytest.raises(Enough):
        train(**pairs | {"views": VIEWS}, out=str(tmp_path / "cut"), callbacks=(stop,), quiet=True)
    train(resume=tmp_path / "cut", quiet=True)
    both = (tmp_path / "cut", finished)
    mine, theirs = (load_checkpoint(run / "checkpoints" / "last.pt") for run in both)
    assert mine["module"].keys() == theirs["module"].keys()
    for name, tensor in mine["module"].items():
        torch.testing.assert_close(tensor, theirs["module"][name], rtol=0, atol=0, msg=name)
    # The average of the weights, of which the run had half before it was cut, and what was chosen by it.
    assert len(mine["average"]) > 0
    for one, other in zip(mine["average"], theirs["average"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert read_log(both[0] / "log.jsonl") == read_log(both[1] / "log.jsonl")
    assert any("validation/average/text_to_image/recall@1" in line for line in read_log(finished / "log.jsonl"))
    results = [json.loads((run / "metrics.json").read_text()) for run in both]
    assert [result.pop("seconds") > 0 for result in results] == [True, True]
    assert results[0] == results[1]
    for name in ("test-views", "test-views-query"):
        np.testing.assert_array_equal(*(np.load(run / "embeddings" / f"{name}.npy") for run in both))


def test_training_brings_images_and_their_descriptions_together(pairs: Options, tmp_path: Path) -> None:
    options = {**pairs, "encoder": {"size": 32, "dim": 16}, "text": {}, "steps": 30, "validate_every": 30}
    run = train(**options, out=str(tmp_path / "run"), quiet=True)
    train_images, words = (np.load(run / "embeddings" / f"train-after{kind}.npy") for kind in ("", "-text"))
    texts, items = pd.read_parquet(run / "texts.parquet"), Items.load(run / "items.parquet").split("train")
    labels = texts[texts["split"] == "train"]["label"].to_numpy()
    found = evaluate_image_text(train_images, items.labels, words, labels).metrics
    assert found["image_to_text/recall@1"] > 0.9
    assert found["text_to_image/recall@1"] > 0.9


@pytest.mark.parametrize("loss", ["siglip", "triplet", "circle", "nt_xent", "multi_similarity"])
def test_other_losses_and_memory_on_either_side(pairs: Options, tmp_path: Path, loss: str) -> None:
    side = {"siglip": "images", "triplet": "texts"}.get(loss, "both")
    options = {
        **pairs,
        "loss": loss,
        "memory": {"size": 12, "fill": loss == "circle"},
        "text": {**pairs["text"], "memory": side},
    }
    run = train(**options | {"steps": 3, "validate_every": 3}, out=str(tmp_path / "run"), quiet=True)
    state = load_checkpoint(run / "checkpoints" / "last.pt")["module"]
    held = {name.split(".")[1] for name in state if name.endswith(".entered")}
    assert held == {"images": {"reverse_memory"}, "texts": {"memory"}}.get(side, {"memory", "reverse_memory"})
    assert all((state[f"criterion.{name}.entered"] >= 0).all() for name in held)
    learned = {name.split(".")[-1] for name in state if ".learned." in name}
    assert learned == {"siglip": {"log_scale", "bias"}, "nt_xent": {"log_temperature"}}.get(loss, set())


def test_proxies_and_data_without_texts_are_refused(pairs: Options, photos: Path) -> None:
    with pytest.raises(UserError, match=r"proxies, not with texts.*n_pair"):
        task_of({**pairs, "loss": "proxy_anchor"})
    with pytest.raises(UserError, match=r"no texts.*'text'.*captions\.csv"):
        task_of({**pairs, "data": {"source": str(photos)}})


def test_defaults_of_the_task_give_way_to_what_is_said() -> None:
    config = config_from({"task": "image-text"})
    assert (config.loss.name, config.loss.options["temperature"], config.encoder.freeze) == ("n_pair", 0.07, True)
    assert config_from({"task": "image-text", "loss": "nt_xent"}).loss.options["temperature"] == 0.07
    assert "temperature" not in config_from({"task": "image-text", "loss": "circle"}).loss.options
    said = config_from({"task": "image-text", "loss": {"name": "n_pair", "temperature": 1.0}, "steps": 7})
    assert (said.loss.options["temperature"], said.steps) == (1.0, 7)
    assert config_from({}).loss.name == "multi_similarity"
    assert not config_from({}).encoder.freeze


@pytest.mark.parametrize("duplicates", ["positive", "mask", "negative"])
def test_duplicates_by_option(duplicates: str) -> None:
    """Items 0 and 1 share description 7; 2 has its own."""
    labels, ids = torch.tensor([[0, 7], [1, 7], [2, 8]]), torch.arange(3)
    found = make_pairs(labels, ids, labels, ids + 10, same_text(duplicates=duplicates))
    twice = torch.zeros(3, 3, dtype=torch.bool)
    twice[0, 1] = twice[1, 0] = True
    own = torch.eye(3, dtype=torch.bool)
    assert torch.equal(found.positive, own | twice if duplicates == "positive" else own)
    assert torch.equal(found.negative, ~own if duplicates == "negative" else ~(own | twice))


def test_matching_pairs_are_never_dropped_and_relation_says_who_matches(pairs: Options) -> None:
    """Two images a class in a batch: four matching cells a class by class, two by item, the other two being duplicates
    where the descriptions are the same."""
    for relation, expected in (("class", 4 * 4), ("item", 2 * 4)):
        task = task_of({**pairs, "text": {**pairs["text"], "relation": relation, "duplicates": "mask"}})
        batch = next(task.batches(0))
        _, labels, ids = task.prepare(batch, torch.device("cpu"))
        found = make_pairs(labels, ids, labels, ids + OTHER_IDS, same_text(duplicates="mask"))
        assert found.positive.diagonal().all()
        assert int(found.positive.sum()) == expected
        rate = task.logged(batch)["train/duplicates"]
        assert (rate > 0) == (relation == "item")


def test_apart_keeps_equal_descriptions_out_of_a_batch(pairs: Options) -> None:
    items = open_items(pairs["data"]["source"])
    classes = items.table["label"].to_numpy()
    # Two and two classes have a description in common.
    texts = [[*said, f"shared {n // 2}"] for said, n in zip(items.table["text"], classes, strict=True)]
    shared = items.assign(text=texts)
    rates = {}
    for duplicates in ("apart", "positive"):
        options = {**pairs, "batch": {"classes": 2, "samples": 2}, "text": {**pairs["text"], "duplicates": duplicates}}
        task = task_of({**options, "data": {"test": 0.0, "validation": 0.0, "source": "x"}}, shared)
        batches = task.batches(0)
        rates[duplicates] = sum(task.logged(next(batches))["train/duplicates"] for _ in range(30))
    assert rates["apart"] == 0
    assert rates["positive"] > 0


def test_every_description_is_drawn_and_the_draw_repeats(pairs: Options) -> None:
    task = task_of(pairs)
    batches = task.batches(0)
    drawn = [next(batches) for _ in range(12)]
    seen = {text for _, batch in drawn for text in task.towers[1].inputs(batch.entries)}
    assert seen == {text for texts in task.splits["train"].table["text"] for text in texts}
    for (_, batch), (_, again) in zip(drawn[5:], task.batches(5), strict=False):
        assert torch.equal(batch.rows, again.rows)
        assert torch.equal(batch.entries, again.entries)


@pytest.mark.parametrize("memory", [0, 16])
def test_gradient_cache_of_two_towers_is_the_whole_batch(pairs: Options, memory: int) -> None:
    gradients, values = [], []
    for chunk in (0, 3):
        task = task_of({**without_dropout(pairs), "memory": {"size": memory}})
        arguments = task.prepare(next(task.batches(0)), torch.device("cpu"))
        task.step(*arguments)  # fills the memory
        if chunk:
            value = task.step.in_chunks(*arguments, chunk, torch.Tensor.backward)
        else:
            value = task.step(*arguments)
            value.backward()
        values.append(value.item())
        gradients.append(torch.cat([p.grad.flatten() for p in task.step.parameters() if p.grad is not None]))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-5


def test_both_towers_fine_tuned_through_the_gradient_cache(pairs: Options, tmp_path: Path) -> None:
    """Without augmentation and dropout, chunks change nothing."""
    options = {
        **without_dropout(pairs),
        "encoder": {"size": 32, "dim": 16, "freeze": False, "augment": False, "dropout": 0.0},
        "steps": 2,
    }
    options["text"] |= {"freeze": False, "lr_scale": 0.1}
    found = []
    for chunk in (0, 3):
        run = train(**options, gradient_cache=chunk, out=str(tmp_path / str(chunk)), quiet=True)
        found.append([line["train/loss"] for line in read_log(run / "log.jsonl") if "train/loss" in line])
        state = load_checkpoint(run / "checkpoints" / "last.pt")["module"]
        start = task_of(options).step.state_dict()
        changed = {name.split(".")[0] for name in state if ".backbone." in name and not state[name].equal(start[name])}
        assert changed == {"image", "text"}
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    rates = {group["name"]: group["lr"] for group in task_of(options).parameter_groups()}
    assert rates["text/backbone/weights"] == pytest.approx(0.1 * rates["text/head/weights"])


def test_matryoshka_of_two_towers_is_decided_on_the_validation_and_shortens_both(
    pairs: Options, tmp_path: Path
) -> None:
    run = train(**{**pairs, "matryoshka": [8], "memory": 0.5, "steps": 2}, out=str(tmp_path / "run"), quiet=True)
    chosen = json.loads((run / "metrics.json").read_text())["compression"]
    scores = {name: each["8"] for name, each in chosen["validation"].items()}
    assert scores[chosen["reduction"]] == max(scores.values())
    model = pullpush.load(run)
    words, dim = ["a cat", "pizza"], model.dim
    assert model.compression.components.shape == (dim, dim)
    np.testing.assert_allclose(
        model.embed_text(words, dim=8), model.compression.reduce(model.embed_text(words), 8), atol=1e-5
    )
    trained = [np.load(run / "embeddings" / f"train-after{tower}.npy") for tower in ("", "-text")]
    np.testing.assert_allclose(model.compression.mean, np.concatenate(trained).mean(0), atol=1e-5)
