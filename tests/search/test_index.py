"""Building and changing an index."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pullpush import search
from pullpush.data.items import Items
from pullpush.encoders import Compression, ImageEncoder, load, save
from pullpush.errors import UserError
from pullpush.search import layout
from tests.support.fake import COLOURS, FakeModel, picture, write_folder
from tests.support.running import spawn, wait_end, wait_for


def build(model: FakeModel, source: object, out: Path, **options: object) -> search.Report:
    return search.build_index(model, source, out, **{"projection": "pca", **options})


def manifest(index: Path) -> layout.Manifest:
    return layout.current(index)[1]


def test_only_what_is_new_or_changed_is_embedded(model: FakeModel, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    first = build(model, pictures, out)
    assert (first.count, first.added, model.calls) == (30, 30, 30)
    again = build(model, pictures, out)
    assert (again.kept, again.added, again.changed, again.removed, model.calls) == (30, 0, 0, 0, 30)

    picture("red", 900).save(pictures / "red" / "new.png")
    picture("blue", 901, side=40).save(pictures / "blue" / "0.png")
    (pictures / "green" / "0.png").unlink()
    (pictures / "green" / "1.png").rename(pictures / "green" / "moved.png")
    engine = search.open(out, model)
    before = {hit.path: hit.id for hit in engine.query(text="green", k=30, cut_off=None)}
    third = build(model, pictures, out)
    assert (third.count, third.added, third.changed, third.removed, third.kept) == (30, 2, 1, 2, 27)
    assert model.calls == 30 + 3 + 0
    after = {hit.path: hit.id for hit in engine.query(text="green", k=30, cut_off=None)}
    assert len(after) == 30
    for path in set(before) & set(after) - {str(pictures / "blue" / "0.png")}:
        assert before[path] == after[path], "an unchanged image keeps its id"
    assert after[str(pictures / "blue" / "0.png")] not in before.values(), "an id is never given to another image"


def test_an_updated_index_answers_as_one_that_is_built_at_once(
    model: FakeModel, pictures: Path, tmp_path: Path
) -> None:
    build(model, pictures, tmp_path / "grown")
    write_folder(pictures, each=8)
    build(model, pictures, tmp_path / "grown")
    build(model, pictures, tmp_path / "fresh")
    for colour in COLOURS:
        answers = []
        for name in ("grown", "fresh"):
            hits = search.open(tmp_path / name, model).query(text=colour, k=12, cut_off=None)
            answers.append([(hit.path, round(hit.score, 5)) for hit in hits])
        assert sorted(answers[0]) == sorted(answers[1])


def test_unreadable_files_are_reported_and_passed_over(model: FakeModel, pictures: Path, tmp_path: Path) -> None:
    (pictures / "red" / "cut.png").write_bytes((pictures / "red" / "0.png").read_bytes()[:300])
    (pictures / "red" / "text.jpg").write_text("no image")
    report = build(model, pictures, tmp_path / "index")
    assert report.count == 30
    assert sorted(Path(path).name for path, _ in report.unreadable) == ["cut.png", "text.jpg"]
    assert "cut.png" in str(report)
    (pictures / "red" / "text.jpg").unlink()
    picture("red", 7).save(pictures / "red" / "cut.png")
    assert build(model, pictures, tmp_path / "index").added == 1


def test_a_stopped_build_goes_on_where_it_stopped(
    model: FakeModel, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullpush.search.embedding.CHUNK", 4)
    broken = FakeModel()

    def embed(images: list, batch_size: int = 64) -> np.ndarray:
        if broken.calls >= 16:
            raise KeyboardInterrupt
        return FakeModel.embed(broken, images)

    broken.embed = embed
    with pytest.raises(KeyboardInterrupt):
        build(broken, pictures, tmp_path / "index")
    assert layout.current(tmp_path / "index") is None
    report = build(model, pictures, tmp_path / "index")
    assert (report.count, model.calls) == (30, 14)
    assert not (tmp_path / "index" / layout.BUILDING).exists()


def test_another_model_is_refused_until_a_rebuild(model: FakeModel, index: Path) -> None:
    other, source = FakeModel("b"), manifest(index).source
    with pytest.raises(UserError, match="cannot be compared"):
        build(other, source, index)
    with pytest.raises(UserError, match="cannot be compared"):
        search.open(index, other)
    engine = search.open(index, model)
    report = build(other, source, index, rebuild=True)
    assert (report.count, report.added) == (120, 120)
    with pytest.raises(UserError, match="cannot be compared"):
        engine.query(text="red")
    assert search.open(index, other).query(text="red")[0].label == "red"


def test_another_source_or_store_is_refused(model: FakeModel, index: Path, pictures: Path) -> None:
    with pytest.raises(UserError, match="source"):
        build(model, pictures, index)
    with pytest.raises(UserError, match="store"):
        build(model, manifest(index).source, index, store="faiss:hnsw")
    assert len(search.open(index, model)) == 120


def test_pictures_added_by_hand_stay_and_removed_ones_stay_away(model: FakeModel, index: Path) -> None:
    source = manifest(index).source
    new = picture("yellow", 4242)
    ids = search.add(index, [new, new, picture("red", 4243)], model, label="mine")
    assert ids[0] == ids[1] != ids[2]
    assert search.add(index, [new], model) == [ids[0]]
    engine = search.open(index, model)
    assert engine.query(image=new, k=1)[0].id == ids[0]
    assert engine.item(ids[0]).label == "mine"
    assert Path(engine.item(ids[0]).path).is_file()

    gone = engine.query(text="red", where={"label": "red"}, k=3)
    assert search.remove(index, [hit.id for hit in gone]) == 3
    with pytest.raises(UserError, match="no item"):
        search.remove(index, [gone[0].id, ids[0]])
    report = build(model, source, index)
    assert (report.count, report.added, report.removed) == (119, 0, 0)
    assert not {hit.id for hit in engine.query(text="red", k=200, cut_off=None)} & {hit.id for hit in gone}

    rebuilt = build(model, source, index, rebuild=True)
    assert rebuilt.count == 119
    path = engine.query(image=new, k=1)[0].path
    search.remove(index, [engine.query(image=new, k=1)[0].id])
    assert not Path(path).exists()


def test_a_second_writer_is_refused_and_readers_go_on(
    model: FakeModel, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = search.open(index, model)
    monkeypatch.setattr(layout, "WAIT", 0.1)
    holder = spawn("hold", tmp_path / "log", path=str(index), held=str(tmp_path / "held"))
    try:
        assert wait_for(tmp_path / "held", holder) == "held"
        with pytest.raises(UserError, match=rf"another process.*{holder}"):
            search.remove(index, [0])
        assert engine.query(text="blue")[0].label == "blue"
    finally:
        os.kill(holder, signal.SIGKILL)
        wait_end(holder)
    assert search.remove(index, [0]) == 1


@pytest.mark.parametrize(
    "name", ["vectors.npy", "quantized.pt", "rows.npy", "items.parquet", "manifest.json", "columns.parquet"]
)
def test_a_damaged_file_is_named(model: FakeModel, index: Path, name: str) -> None:
    folder, _ = layout.current(index)
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(raw)
    with pytest.raises(UserError, match=name):
        search.open(index, model)


def test_old_versions_are_pruned_and_open_readers_keep_theirs(model: FakeModel, index: Path) -> None:
    version = search.open(index, model).version
    for item in range(4):
        search.remove(index, [item])
    assert len(list((index / layout.VERSIONS).iterdir())) == layout.KEPT
    assert version.vectors.search(np.eye(16, dtype=np.float32)[:1], 5)[1].shape == (1, 5)
    assert version.thumbnail(3).startswith(b"RIFF")


def test_thumbnail_packs_are_linked_and_written_anew_when_many(
    model: FakeModel, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    build(model, pictures, out)
    for number in range(20):
        picture("white", 5000 + number).save(pictures / "white" / f"more{number}.png")
        build(model, pictures, out)
    folder, _ = layout.current(out)
    assert len(list(folder.glob("thumbnails-*"))) <= 16
    engine = search.open(out, model)
    for hit in engine.query(text="white", k=50, cut_off=None):
        small = Image.open(io.BytesIO(engine.thumbnail(hit.id)))
        assert np.abs(np.asarray(small.convert("RGB"), float).mean((0, 1)) - COLOURS[hit.label]).max() < 25


def test_items_with_texts_and_categories(model: FakeModel, pictures: Path, tmp_path: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    table = pd.DataFrame(
        {
            "path": [str(f) for f in files],
            "label": 0,
            "category": [f.parent.name for f in files],
            "text": [f"a {f.parent.name} square" for f in files],
        }
    )
    items = Items(table, ["square"], "squares")
    build(model, items, tmp_path / "index")
    engine = search.open(tmp_path / "index", model)
    hits = engine.query(text="red", k=5, where={"category": "blue"}, cut_off=None)
    assert {hit.category for hit in hits} == {"blue"}
    assert hits[0].as_dict().keys() == {"id", "score", "closeness", "probability", "weak", "path", "label", "text"}
    assert json.loads(json.dumps(hits[0].as_dict()))["text"] == ["a blue square"]
    assert manifest(tmp_path / "index").calibration["text"]["typical"] > 0.9
    changed = Items(
        table.assign(text=["new words" if i == 0 else t for i, t in enumerate(table["text"])]), ["square"], "squares"
    )
    assert build(model, changed, tmp_path / "index").changed == 1


def test_a_flat_folder_and_an_empty_one(model: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    with pytest.raises(UserError, match="no images"):
        build(model, tmp_path / "flat", tmp_path / "index")
    picture("red", 1).save(tmp_path / "flat" / "one.png")
    assert build(model, tmp_path / "flat", tmp_path / "index").count == 1
    assert search.open(tmp_path / "index", model).query(text="red", cut_off=None)[0].label == ""
    os.remove(tmp_path / "flat" / "one.png")
    (tmp_path / "flat" / "bad.png").write_text("x")
    with pytest.raises(UserError, match="nothing is left"):
        build(model, tmp_path / "flat", tmp_path / "index")
    assert len(search.open(tmp_path / "index", model)) == 1


@pytest.mark.parametrize("projection", ["pca", pytest.param("umap", marks=pytest.mark.slow)])
def test_the_map_keeps_classes_together_and_its_places(
    model: FakeModel, pictures: Path, tmp_path: Path, projection: str
) -> None:
    """UMAP compiles itself for half a minute, so it is left to the slow tests."""
    build(model, pictures, tmp_path / "index", projection=projection)
    table = search.open(tmp_path / "index", model).version.table
    places = table[["map_x", "map_y"]].to_numpy()
    assert np.abs(places).max() <= 1
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places)) * 9
    nearest = table["label"].to_numpy()[distance.argmin(axis=1)]
    assert (nearest == table["label"]).mean() > 0.9
    picture("red", 31).save(pictures / "red" / "late.png")
    build(model, pictures, tmp_path / "index", projection=projection)
    after = search.open(tmp_path / "index", model).version.table
    pd.testing.assert_frame_equal(after.loc[table.index, ["map_x", "map_y"]], table[["map_x", "map_y"]])
    reds = after[after["label"] == "red"][["map_x", "map_y"]].to_numpy()
    assert np.linalg.norm(reds[-1] - reds[:-1].mean(axis=0)) < 0.5


@pytest.mark.parametrize("store", ["faiss", "faiss:int8"])
def test_an_index_of_fewer_dimensions(pictures: Path, tmp_path: Path, store: str) -> None:
    """Items, queries and what is added are reduced alike, by the model's own components; the record says so."""
    fitted = Compression.fit(np.random.default_rng(0).standard_normal((50, 8)), "pca")
    save(tmp_path / "model", ImageEncoder("test_resnet", weights="none", dim=8, size=32), compression=fitted)
    index, options = tmp_path / "index", {"store": store, "projection": "pca"}
    search.build_index(tmp_path / "model", pictures, index, dim=4, **options)
    model, engine = load(tmp_path / "model"), search.open(index)
    assert (engine.manifest.dim, engine.manifest.fingerprint) == (4, f"{model.fingerprint}-4")
    files = [pictures / path for path in engine.version.table["path"]]
    known = model.embed(files, dim=4)
    ids = engine.version.table["id"].to_numpy()
    np.testing.assert_allclose(engine.version.vectors.get(ids), known, atol=1e-5)
    for given in (engine, search.open(index, model), search.open(index, model.reduced(4))):
        hits = given.query(image=files[7], k=len(ids))
        scores = np.sort(known @ known[7])[::-1]
        np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-5)
    # the same command keeps them, also for what is new and what is added by hand
    picture("red", 4711).save(pictures / "red" / "new.png")
    assert search.build_index(tmp_path / "model", pictures, index, **options).added == 1
    [added] = search.add(index, [picture("blue", 99)], model)
    engine = search.open(index)
    np.testing.assert_allclose(
        engine.version.vectors_of([added])[0], model.embed([picture("blue", 99)], dim=4)[0], atol=1e-5
    )
    assert engine.manifest.dim == 4
    with pytest.raises(UserError, match="holds embeddings of 4 dimensions, not of 3"):
        search.build_index(tmp_path / "model", pictures, index, dim=3, **options)
    for dim in (0, 9):
        with pytest.raises(UserError, match=f"dim must be a whole number from 1 to 8, not {dim}"):
            search.build_index(tmp_path / "model", pictures, tmp_path / "other", dim=dim)
    assert not (tmp_path / "other").exists()
    search.build_index(tmp_path / "model", pictures, index, rebuild=True, **options)
    assert engine.refresh()
    assert (engine.manifest.dim, len(engine.query(image=files[7], k=3))) == (8, 3)
