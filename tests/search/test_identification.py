"""Enrolment and identification: classes from a few images, the rate of strangers that get a name, and bad input."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pullpush import search
from pullpush.cli.main import main
from pullpush.encoders.decision import Decision
from pullpush.encoders.naming import Naming
from pullpush.errors import UserError
from pullpush.search import chances, enrolment, version
from pullpush.search.gallery import Gallery, gallery_of
from tests.support.fake import COLOURS, FakeModel, picture

DECISION = Decision("logistic", (-1.0, 1.0), (-10.0, 10.0), (-1.0, 0.6, 0.99), (1.0, 0.1, 1e-6))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Red from one image, green from three."""
    folder = tmp_path / "people"
    search.enroll(
        folder, {"red": picture("red", 1), "green": [picture("green", seed) for seed in range(3)]}, FakeModel()
    )
    return folder


def test_a_class_is_known_as_soon_as_it_is_enrolled(people: Path) -> None:
    engine = search.open(people, FakeModel(decision=DECISION))
    [red, blue] = engine.identify([picture("red", 50), picture("blue", 50)], far=0.01)
    assert (red.name, red.closest) == ("red", "red")
    assert blue.name is None
    assert blue.closest in ("red", "green")
    assert red.probability is not None
    assert blue.probability is not None
    assert red.probability > 0.9 > 0.5 > blue.probability
    assert red.score >= red.threshold > blue.score

    ids = search.enroll(people, {" blue ": [picture("blue", 1), picture("blue", 2)]}, FakeModel())
    assert ids == {"blue": [4, 5]}
    [blue] = engine.identify(picture("blue", 50), far=0.01)
    assert blue.name == "blue"
    assert search.enroll(people, {"blue": [picture("blue", 2), picture("blue", 3)]}, FakeModel(), more=True) == {
        "blue": [5, 6]
    }
    assert engine.version.gallery is engine.version.gallery, "made once a version"
    assert search.remove(people, [0]) == 1
    engine.refresh()
    assert engine.version.gallery.names == ["blue", "green"]


def test_an_index_that_was_built_is_a_gallery_of_its_labels(built: Path) -> None:
    engine = search.open(built, FakeModel())
    assert engine.version.gallery.names == sorted(COLOURS)
    assert [who.name for who in engine.identify([picture(colour, 999) for colour in COLOURS], far=0.3)] == list(COLOURS)
    assert engine.identify(picture("red", 999), far=0.3)[0].probability is None, "the model has no decision"


def test_nothing_is_enrolled_where_one_cannot_be(people: Path, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no image")
    before = search.open(people).version.table
    red, fresh = picture("red", 1), picture("black", 1)
    refused = {
        "there already, with 1 images": {"black": fresh, "red": picture("red", 9)},
        "name of a class is empty": {"  ": fresh},
        "one line of at most": {"a\nb": fresh},
        "one line of at most 200": {"a" * 201: fresh},
        "not 'a.x1b": {"a\x1b[2J": fresh},
        "cannot be called 'unknown'": {"Unknown": fresh},
        "'black' has no images": {"black": []},
        "nobody to enrol": {},
        "in the index already, as item 0 of 'red'": {"scarlet": [fresh, red]},
        "given for two classes": {"black": fresh, "dark": fresh},
        "no.png": {"black": [fresh, tmp_path / "no.png"]},
        "none.png": {"black": tmp_path / "none.png"},
    }
    for says, classes in refused.items():
        with pytest.raises(UserError, match=says):
            search.enroll(people, classes, FakeModel())
    with pytest.raises(UserError, match="cannot be compared"):
        search.enroll(people, {"black": fresh}, FakeModel("b"))
    with pytest.raises(UserError, match="name the model to begin one"):
        search.enroll(tmp_path / "none", {"black": fresh})
    assert not (tmp_path / "none").exists()
    pd.testing.assert_frame_equal(search.open(people).version.table, before)
    assert len(list((people / "uploads").iterdir())) == 4


def test_who_cannot_be_told_is_said(people: Path, tmp_path: Path) -> None:
    engine = search.open(people, FakeModel())
    for far in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(UserError, match="above 0 and below 1"):
            engine.identify(picture("red", 3), far=far)
    with pytest.raises(UserError, match="cannot be told from so few classes"):
        engine.identify(picture("red", 3), far=0.01)
    with pytest.raises(UserError, match="neither from these classes nor from the validation"):
        search.open(people, FakeModel(decision=DECISION)).identify(picture("red", 3), far=1e-6)
    search.add(tmp_path / "people", [picture("white", 1)], FakeModel(), text="of no class")
    assert search.open(people, FakeModel()).version.gallery.names == ["green", "red"]
    table = search.open(people).version.table.assign(label="")
    with pytest.raises(UserError, match="nobody is enrolled"):
        gallery_of(table, engine.version.vectors)


def test_the_threshold_is_told_by_classes_and_that_of_a_pair_where_they_are_few() -> None:
    generator = np.random.default_rng(0)
    labels = np.sort(generator.integers(0, 50, 400))
    x = _unit(generator.normal(size=(50, 12))[labels] + generator.normal(size=(400, 12)))
    gallery = gallery_of(pd.DataFrame({"id": np.arange(400), "label": labels.astype(str)}), _Held(x))
    other = np.array(
        [
            max(x[i] @ _unit(x[labels == label].sum(axis=0)[None])[0] for label in range(50) if label != labels[i])
            for i in range(400)
        ]
    )
    for far in (0.5, 0.2, 0.05):
        threshold = gallery.threshold(far, DECISION)
        mean = lambda accepted: np.mean([accepted[labels == label].mean() for label in range(50)])  # noqa: E731
        assert 50 * mean(other >= threshold + 1e-6) <= far * 51 - 1
        assert 50 * mean(other >= threshold - 1e-4) > far * 51 - 1, "the least that does"
    assert gallery.threshold(2 / 51) < other.max()
    with pytest.raises(UserError, match=r"at least 0\.039"):
        gallery.threshold(1.99 / 51)
    pair = 1 - (1 - 0.03) ** (1 / 50)
    assert gallery.threshold(0.03, DECISION) == pytest.approx(DECISION.threshold(pair))


def test_of_few_classes_the_threshold_is_that_of_simulated_galleries(people: Path) -> None:
    naming = Naming(
        (1, 4), (0.1, 0.05), ((0.6, 0.7), (0.7, 0.8)), ((400.0, 200.0),) * 2, ((-9.0, 9.0),) * 2, (0.0, 1.0, 0.0)
    )
    decision = replace(DECISION, naming=naming)
    engine = search.open(people, FakeModel(decision=decision))
    gallery = engine.version.gallery
    assert dict(zip(gallery.names, gallery.images, strict=True)) == {"green": 3, "red": 1}
    [who] = engine.identify(picture("red", 50), far=0.15)
    assert who.threshold == naming.threshold(0.15, np.array([3, 1]), gallery.strangers, gallery.above)
    score = engine.embed_images([picture("red", 50)]) @ gallery.prototypes.T
    assert who.probability == pytest.approx(float(naming.probabilities(score, gallery.images)[0]), rel=1e-4)
    with pytest.raises(UserError, match=r"0\.05 among 2 classes can't be told.*at least 0\.1\d*, or enrol more"):
        engine.identify(picture("red", 50), far=0.05)
    least = naming.least(gallery.images, gallery.strangers, gallery.above)
    assert 0.1 < least < 0.15
    with pytest.raises(UserError, match=r"rate of 0\.01 among 2 classes can't be told"):
        engine.identify(picture("red", 50))
    [told] = engine.identify(picture("red", 50), far=0.7)
    assert told.threshold == engine.version.gallery.threshold(0.7), "these two classes tell it themselves"


def test_the_usual_rate_is_one_that_can_be_told() -> None:
    sizes = {5: 0.42, 30: 0.068, 200: 0.01}  # 2 / (N + 1), and a little more
    for classes, rate in sizes.items():
        x = _unit(np.random.default_rng(0).normal(size=(classes, 8)))
        table = pd.DataFrame({"id": np.arange(classes), "label": [f"{c}" for c in range(classes)]})
        gallery = gallery_of(table, _Held(x))
        if rate <= 0.1:
            assert gallery.usual() == rate
            assert gallery.identify(x[:1])[0].far == rate
        else:
            assert gallery.usual() == 0.01
            with pytest.raises(UserError, match=r"0\.01 cannot be told"):
                gallery.identify(x[:1])
        assert gallery.usual(DECISION) == 0.01, "a pair at 1e-6 among so many"
        known = tuple(400 * 0.1**power for power in range(3))
        naming = Naming((1,), (0.1, 0.01, 0.001), ((0.3, 0.5, 0.7),), (known,), ((-9.0, 9.0),), (0.0, 1.0, 0.0))
        usual, least = (
            gallery.usual(replace(DECISION, naming=naming)),
            naming.least(gallery.images, gallery.strangers, gallery.above),
        )
        assert usual == (0.01 if classes == 200 else pytest.approx(min(1.05 * least, rate), rel=0.05))
        assert gallery.threshold(usual, replace(DECISION, naming=naming)) < 1


def test_the_rate_of_strangers_that_get_a_name_is_the_rate_that_was_asked_for() -> None:
    generator = np.random.default_rng(1)
    classes = generator.normal(size=(600, 12))
    rates = []
    for _ in range(20):
        enrolled = generator.permutation(600)[:300]
        labels = np.repeat([f"{c}" for c in enrolled], 2)
        x = _unit(np.repeat(classes[enrolled], 2, axis=0) + 0.5 * generator.normal(size=(600, 12)))
        gallery = gallery_of(pd.DataFrame({"id": np.arange(600), "label": labels}), _Held(x))
        others = np.setdiff1d(np.arange(600), enrolled)
        asked = _unit(np.repeat(classes[others], 2, axis=0) + 0.5 * generator.normal(size=(600, 12)))
        rates.append(np.mean([who.name is not None for who in gallery.identify(asked, far=0.05)]))
    error = np.std(rates, ddof=1) / math.sqrt(len(rates))
    assert -0.008 - 2 * error < np.mean(rates) - 0.05 < 2 * error
    assert error < 0.005


def test_the_probability_is_that_of_bayes() -> None:
    prototypes = np.eye(3, dtype=np.float32)
    gallery = Gallery(["a", "b", "c"], prototypes, np.zeros(0, np.float32), np.zeros(0), np.ones(3, np.int64))
    query = _unit(np.array([[0.5, 0.3, -0.2]]))
    [who] = gallery.identify(query, 0.3, DECISION)
    ratios = [math.exp(10 * float(score)) for score in query[0]]
    assert who.closest == "a"
    assert who.probability == pytest.approx(ratios[0] / (3 + sum(ratios)), rel=1e-5)
    one = Gallery(["a"], prototypes[:1], np.zeros(0, np.float32), np.zeros(0), np.ones(1, np.int64))
    assert one.identify(query, 0.3, DECISION)[0].probability == pytest.approx(DECISION.probability(query[0, 0]))


def test_hits_say_how_likely_they_are_of_the_class(
    people: Path, built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeModel(decision=DECISION)
    engine = search.open(people, model)
    hits = engine.query(image=picture("green", 50))
    prior = 3 * 2 / (4 * 3)  # three pairs of green ones, of six
    expected = DECISION.probability([hit.score for hit in hits], prior)
    np.testing.assert_allclose([hit.probability for hit in hits], expected)
    assert [hit.label for hit in hits if not hit.weak] == ["green"] * 3
    assert hits[-1].weak
    assert hits[-1].as_dict()["probability"] == hits[-1].probability
    assert engine.query(image=picture("green", 50), min_probability=0.5) == hits[:3]
    assert {hit.probability for hit in engine.query(text="green")} == {None}
    assert {hit.probability for hit in engine.query(like=1, minus=0)} == {None}
    for asked, says in (
        ({"text": "green"}, "a query with words"),
        ({"like": 1, "minus": 0}, "something to move away"),
        ({"like": 1, "min_probability": 1.5}, "can be 0 to 1"),
        ({"like": 1, "min_probability": math.nan}, "can be 0 to 1"),
    ):
        with pytest.raises(UserError, match=says):
            engine.query(**{"min_probability": 0.5, **asked})
    without = search.open(built, FakeModel())
    assert {hit.probability for hit in without.query(like=1)} == {None}
    with pytest.raises(UserError, match="has no decision"):
        without.query(like=1, min_probability=0.5)

    # kept with the version: a search for items like one needs no model
    search.enroll(people, {"blue": picture("blue", 1)}, model)
    engine = search.open(people)
    assert all(hit.probability is not None for hit in engine.query(like=1))
    assert search.remove(people, [4]) == 1
    assert engine.query(like=1)[0].probability == pytest.approx(
        float(DECISION.probability(engine.query(like=1)[0].score, prior))
    )
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["search", str(people), "--like", "1", "--min-probability", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "probability" in shown
    assert "weak" not in shown
    assert main(["search", str(people), "--like", "1"]) == 0
    assert "a chance below 10%" in capsys.readouterr().out


def test_where_no_two_have_a_class_the_prior_is_that_of_the_validation(people: Path) -> None:
    decision = Decision.of({**DECISION.values(), "positives": 10, "negatives": 990})
    search.remove(people, [2, 3])
    engine = search.open(people, FakeModel(decision=decision))
    assert chances.pair_share(engine.version.table["label"]) is None
    hit = engine.query(image=picture("red", 9))[0]
    assert hit.probability == pytest.approx(float(decision.probability(hit.score, 0.01)))


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(path: str, weights: object = None) -> FakeModel:
        made = FakeModel(decision=DECISION)
        made.source = path
        return made

    for module in (enrolment, version):
        monkeypatch.setattr(module, "load", loaded)
    (tmp_path / "b").mkdir()
    files = {"a, 1": "red", "2": "red", "b/1": "blue", "b/2": "blue", "ask": "red", "who": "white"}
    for seed, (name, colour) in enumerate(files.items()):
        picture(colour, seed).save(tmp_path / f"{name}.png")
    index = str(tmp_path / "index")
    assert main(["enroll", index, f"red={tmp_path}/a, 1.png", f"blue={tmp_path}/b", "--model", "run"]) == 0
    assert capsys.readouterr().out == "red: 1 image\nblue: 2 images\n"
    assert main(["enroll", index, f"red={tmp_path}/2.png,{tmp_path}/ask.png", "--more", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"red": [3, 4]}

    asked = [str(tmp_path / "ask.png"), str(tmp_path / "who.png")]
    assert main(["identify", index, *asked, "--far", "0.05", "--json"]) == 0
    red, white = json.loads(capsys.readouterr().out)
    assert list(red) == ["image", "name", "closest", "probability", "score", "threshold", "far"]
    assert (red["image"], red["name"], red["far"]) == (asked[0], "red", 0.05)
    assert white["name"] is None
    assert main(["identify", index, *asked, "--far", "0.05"]) == 0
    shown = capsys.readouterr().out
    assert "unknown" in shown
    assert "red" in shown

    for words, says in (
        ([], "needs CLASSES"),
        (["red"], "must be NAME=IMAGE,IMAGE"),
        (["red="], "must be NAME=IMAGE,IMAGE"),
        ([f"=x{asked[0]}"], "name of a class is empty"),
        ([f"c={asked[0]}", f"c={asked[1]}"], "given twice"),
        ([f"c={tmp_path / 'index' / 'versions'}"], "no images in"),
        ([f"red={asked[1]}"], "there already"),
    ):
        assert main(["enroll", index, *words]) == 2
        assert says in capsys.readouterr().err
    assert main(["identify", index]) == 2
    assert main(["identify", index, str(tmp_path / "none.png"), "--far", "0.05"]) == 2
    assert "none.png" in capsys.readouterr().err


class _Held:
    """Vectors by id, as a store has them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def get(self, ids: np.ndarray) -> np.ndarray:
        return self.vectors[ids]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
