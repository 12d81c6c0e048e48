"""Queries: sums of parts, filters, and when nothing is close."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullpush import search
from pullpush.errors import UserError
from pullpush.evaluation import Rerank, evaluate
from pullpush.search import reranking, stores
from pullpush.search.calibration import WEAK, closeness
from pullpush.search.lookup import Lookup, find
from pullpush.search.query import SearchQuery, mix
from tests.support.fake import COLOURS, FakeModel, picture


@pytest.fixture
def engine(built: Path, model: FakeModel) -> search.Engine:
    return search.open(built, model)


def vectors(engine: search.Engine) -> tuple[np.ndarray, np.ndarray]:
    ids = engine.version.table["id"].to_numpy()
    return ids, engine.version.vectors.get(ids)


@pytest.mark.parametrize("colour", COLOURS)
def test_text_and_image_find_their_class(engine: search.Engine, colour: str) -> None:
    for hits in (engine.query(text=f"{colour} square", k=20), engine.query(image=picture(colour, 12345), k=20)):
        assert len(hits) == 20
        assert {hit.label for hit in hits} == {colour}
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_query_is_the_weighted_sum_of_its_parts(engine: search.Engine, model: FakeModel) -> None:
    ids, known = vectors(engine)
    image, text = picture("red", 9), "blue"
    like, minus = int(ids[7]), int(ids[80])
    total = 0.5 * model.embed_text(text)[0] + 2.0 * model.embed([image])[0] + 1.0 * known[7] - 0.25 * known[80]
    scores = known @ (total / np.linalg.norm(total))
    expected = [int(i) for i in ids[np.argsort(-scores)] if i not in (like, minus)][:15]
    weights = {"text": 0.5, "image": 2.0, "minus": 0.25}
    hits = engine.query(text=text, image=image, like=like, minus=minus, weights=weights, k=15, cut_off=None)
    assert [hit.id for hit in hits] == expected
    np.testing.assert_allclose(
        [hit.score for hit in hits], np.sort(scores[~np.isin(ids, [like, minus])])[::-1][:15], atol=1e-5
    )


def test_an_array_of_ids_or_of_images_is_several(engine: search.Engine) -> None:
    ids = vectors(engine)[0]
    images = [np.asarray(picture(colour, 3)) for colour in ("red", "blue")]
    several = engine.query(image=images, like=ids[:3].tolist(), minus=ids[80:82].tolist())
    assert engine.query(image=np.stack(images), like=ids[:3], minus=ids[80:82]) == several
    assert engine.query(image=images[0]) == engine.query(image=[images[0]])


def test_many_looked_up_together_are_each_alone(engine: search.Engine) -> None:
    ids, known = vectors(engine)
    version = engine.version
    wanted = [
        Lookup(version, known[5], SearchQuery(k=3)),
        Lookup(version, known[60], SearchQuery(k=40, like=[int(i) for i in ids[55:75]])),
        Lookup(version, known[5], SearchQuery(k=4, where={"label": "green"})),
        Lookup(version, -known[9], SearchQuery(k=120)),
        Lookup(version, known[33], SearchQuery(k=7, where={"label": "green"})),
    ]
    together = find(wanted)
    assert [len(hits) for hits in together[:2]] == [3, 40]
    assert [len(hits) for hits in together[3:]] == [120, 7]
    for each, hits in zip(wanted, together, strict=True):
        [alone] = find([each])
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-6)
    assert not {hit.id for hit in together[1]} & set(ids[55:75].tolist())
    assert {hit.label for hit in together[4]} == {"green"}


RERANKINGS = [Rerank(expand=4), Rerank(augment=3), Rerank(expand=3, augment=5, alpha=1.0), Rerank(reciprocal=6)]


@pytest.mark.parametrize("options", [*RERANKINGS, Rerank(expand=2, augment=2, reciprocal=8)], ids=str)
def test_reranked_hits_are_those_of_evaluate(engine: search.Engine, model: FakeModel, options: Rerank) -> None:
    """All items are candidates here. Scores stay cosines with the query."""
    ids, known = vectors(engine)
    image = picture("blue", 4321)
    vector = model.embed([image])
    wanted = evaluate(
        vector, [0], gallery=known, gallery_labels=[0] * len(known), neighbours=120, nmi=False, rerank=options
    )
    hits = engine.query(image=image, k=60, rerank=options)
    similarity = dict(zip(ids[wanted.neighbours.indices[0]].tolist(), wanted.neighbours.similarities[0], strict=True))
    in_order = wanted.neighbours.similarities[0, :60]  # some differ in the last bits alone
    np.testing.assert_allclose([similarity[hit.id] for hit in hits], in_order, atol=2e-6)
    assert [hit.id for hit in hits] != [hit.id for hit in engine.query(image=image, k=60)]
    row = {int(each): place for place, each in enumerate(ids)}
    np.testing.assert_allclose([hit.score for hit in hits], [known[row[hit.id]] @ vector[0] for hit in hits], atol=1e-6)
    again = engine.query(image=image, k=7, rerank=str(options))
    assert [hit.id for hit in again] == [hit.id for hit in hits[:7]], "pages follow each other"


@pytest.mark.parametrize("options", RERANKINGS, ids=str)
def test_what_is_no_candidate_comes_after_as_it_was(
    engine: search.Engine, options: Rerank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranking, "CANDIDATES", 20)
    ids, _ = vectors(engine)
    hits = [hit.id for hit in engine.query(like=5, k=119, rerank=options)]
    assert sorted(hits) == [int(each) for each in ids if each != 5]
    if not options.expand:  # which finds other candidates
        plain = [hit.id for hit in engine.query(like=5, k=119)]
        assert hits[20:] == plain[20:]
        assert sorted(hits[:20]) == sorted(plain[:20])
        assert hits != plain


def test_reranked_and_plain_are_looked_up_together(engine: search.Engine) -> None:
    _, known = vectors(engine)
    version, options = engine.version, RERANKINGS[2]
    wanted = [
        Lookup(version, known[5], SearchQuery(k=9)),
        Lookup(version, known[5], SearchQuery(k=9, rerank=options)),
        Lookup(version, known[33], SearchQuery(k=7, where={"label": "green"}, rerank=options, like=[41])),
        Lookup(version, known[60], SearchQuery(k=9)),
    ]
    together = find(wanted)
    for each, hits in zip(wanted, together, strict=True):
        [alone] = find([each])
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
    assert {hit.label for hit in together[2]} == {"green"}
    assert 41 not in {hit.id for hit in together[2]}


@pytest.mark.parametrize("options", RERANKINGS, ids=str)
def test_one_hit_or_none_may_be_left_to_rerank(engine: search.Engine, options: Rerank) -> None:
    ids, known = vectors(engine)
    others = [int(each) for each in ids if each != 5]
    for exclude, left in ((others, [5]), ([*others, 5], [])):
        [hits] = find([Lookup(engine.version, known[7], SearchQuery(like=exclude, rerank=options))])
        assert [hit.id for hit in hits] == left


def test_auto_is_what_the_model_has_chosen(built: Path, index: Path, pictures: Path, model: FakeModel) -> None:
    """By the model, where it is loaded; else by the record of the index, which needs no model."""
    options = Rerank(expand=3, augment=5, alpha=1.0)
    choosing, before = FakeModel(rerank=str(options)), search.open(built, model)
    plain, wanted = ([hit.id for hit in before.query(like=5, k=50, rerank=each)] for each in (None, options))
    assert plain != wanted
    assert [hit.id for hit in before.query(like=5, k=50, rerank="auto")] == plain  # it has chosen none
    assert [hit.id for hit in search.open(built, choosing).query(like=5, k=50, rerank=" Auto")] == wanted
    search.add(index, [picture("red", 77)], choosing)
    [kept, own] = (search.open(index, each) for each in (None, choosing))
    assert kept.rerank_of(kept.version) == options
    one, two, other = (
        engine.query(like=5, k=50, rerank=each) for engine, each in ((kept, "auto"), (own, options), (own, None))
    )
    assert [hit.id for hit in one] == [hit.id for hit in two] != [hit.id for hit in other]


def test_an_option_of_reranking_that_there_is_not_is_refused(engine: search.Engine) -> None:
    with pytest.raises(UserError, match="augment"):
        engine.query(like=5, rerank={"agment": 3})


def test_images_may_be_paths_pictures_or_arrays(engine: search.Engine) -> None:
    path = engine.item(3).path
    answers = [
        engine.query(image=each, k=5) for each in (path, Path(path), Image.open(path), np.asarray(Image.open(path)))
    ]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0].id == 3
    assert engine.query(image=[path, path], k=5) == answers[0]


def test_like_leaves_the_item_out(engine: search.Engine) -> None:
    assert 5 not in {hit.id for hit in engine.query(like=5, k=200, cut_off=None)}
    assert len(engine.query(like=[5, 6], k=200, cut_off=None)) == 118


def test_where(engine: search.Engine) -> None:
    hits = engine.query(text="red", where={"label": "green"}, k=50, cut_off=None)
    assert len(hits) == 20
    assert {hit.label for hit in hits} == {"green"}
    with pytest.raises(UserError, match="did you mean 'green'"):
        engine.query(text="red", where={"label": "grene"})
    with pytest.raises(UserError, match="'colour'"):
        engine.query(text="red", where={"colour": "green"})


def test_who_asks_for_k_gets_k_with_a_mark_where_hits_get_weak(engine: search.Engine) -> None:
    for k in (1, 10, 120):
        nonsense = engine.query(text="zebra", k=k)
        assert len(nonsense) == k
        assert all(hit.weak for hit in nonsense)
    hits = engine.query(text="red", k=120)
    assert len(hits) == 120
    assert [hit.weak for hit in hits] == sorted(hit.weak for hit in hits), "weak ones come last"
    assert not any(hit.weak for hit in hits if hit.label == "red")
    assert hits[-1].weak
    assert hits[-1].as_dict()["weak"] is True
    assert hits[0].closeness > 0.8
    assert {hit.label for hit in hits if hit.closeness >= 0.9} == {"red"}
    assert engine.query(text="zebra", cut_off=WEAK) == []
    assert [hit.id for hit in engine.query(text="red", k=120, cut_off=WEAK)] == [hit.id for hit in hits if not hit.weak]


def test_closeness_is_0_for_nonsense_and_1_for_a_typical_answer() -> None:
    scale = {"noise": 0.2, "typical": 0.7}
    np.testing.assert_allclose(closeness(np.array([0.2, 0.7, 0.45, 0.0]), scale), [0, 1, 0.5, -0.4])
    assert closeness(np.array([0.5]), {"noise": 0.9, "typical": 0.8})[0] < 0


def test_calibration_is_what_it_says(engine: search.Engine, model: FakeModel) -> None:
    ids, known = vectors(engine)
    similar = known @ known.T - 9 * np.eye(len(ids))
    scales = engine.manifest.calibration
    assert scales["image"]["typical"] == pytest.approx(np.median(similar.max(axis=1)), abs=1e-4)
    own = (model.embed_text([engine.item(int(i)).label for i in ids]) * known).sum(axis=1)
    assert scales["text"]["typical"] == pytest.approx(np.median(own), abs=1e-4)
    noise = (known @ model.embed_text("xqzt")[0]).max()
    assert scales["text"]["noise"] == pytest.approx(noise, abs=1e-4)
    assert scales["image"]["noise"] < scales["image"]["typical"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "empty"),
        ({"text": "  "}, "empty"),
        ({"minus": "red"}, "empty"),
        ({"text": "red", "k": 0}, "k is 0"),
        ({"like": 9999}, "9999"),
        ({"image": "missing.png"}, "missing.png"),
        ({"text": "red", "weights": {"txt": 1}}, "txt"),
        ({"text": "red", "minus": "red", "weights": {"minus": 1.0}}, "cancel"),
    ],
)
def test_what_cannot_be_asked(engine: search.Engine, asked: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        engine.query(**asked)


def test_a_zero_sum_is_refused() -> None:
    with pytest.raises(UserError, match="cancel"):
        mix({"text": np.ones((1, 3)), "minus": np.ones((1, 3))}, {"minus": 1.0})


def test_text_without_a_text_tower(built: Path) -> None:
    engine = search.open(built, FakeModel(text=False))
    with pytest.raises(UserError, match="text encoder"):
        engine.query(text="red")
    assert engine.query(image=picture("red", 1))[0].label == "red"


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no index"):
        search.open(tmp_path)
    with pytest.raises(UserError, match="no index"):
        search.default_index(tmp_path)


def test_readers_pick_up_new_versions_while_they_search(index: Path, model: FakeModel) -> None:
    """Answers stay right in six threads while a writer publishes; a removed item is not found once its version is
    out."""
    engine, stop, wrong = search.open(index, model), threading.Event(), []

    def read(colour: str) -> None:
        while not stop.is_set():
            hits = engine.query(text=colour, k=5)
            if len(hits) != 5 or {hit.label for hit in hits} != {colour}:
                wrong.append((colour, hits))

    threads = [threading.Thread(target=read, args=(colour,)) for colour in COLOURS]
    for thread in threads:
        thread.start()
    try:
        for item in range(0, 60, 12):
            search.remove(index, [item, item + 1])
            engine.refresh()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    engine.refresh()
    assert len(engine) == 110
    with pytest.raises(UserError, match="no item 12"):
        engine.item(12)


def test_a_store_is_read_from_its_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that open a version each would be in Python's parser together, which 3.11 does not bear."""
    stores.declared("faiss")
    monkeypatch.setattr(stores.ast, "parse", None)
    assert stores.declared("faiss:hnsw") is stores.declared("faiss")


def test_an_engine_prints_what_it_searches(built: Path) -> None:
    assert repr(search.open(built, FakeModel())) == (
        f"Engine({str(built)!r}, items=120, dim=16, store='flat', version=1)"
    )
