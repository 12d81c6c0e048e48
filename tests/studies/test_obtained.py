"""Each sentence on how the numbers of a study came about, from the options and the data of its runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pullpush.data.items import Items
from pullpush.runs.options import config_from
from pullpush.studies.obtained import how_obtained, margin_meaning
from pullpush.studies.plan import StudyRun

Told = Callable[..., list[str]]
THREE, OTHER = {"classes": 2, "samples": 3}, {"source": "other"}
FIXED = {"batch": {"classes": 2, "samples": 2}, "data": {"source": "some/photos"}}


def items_of(splits: str = "ttv", each: int = 3, role: str = "both") -> Items:
    """Classes a, b, ..., each of the split whose letter it has (t trains, v validates, e tests; s has two splits)."""
    names = {"t": "train", "v": "validation", "e": "test"}
    rows = [
        (f"{place}-{n}.png", chr(97 + place), names.get(letter) or ("train", "test")[n % 2])
        for place, letter in enumerate(splits)
        for n in range(each)
    ]
    paths, classes, parts = zip(*rows, strict=True)
    return Items.build("photos", paths, classes, split=list(parts), role=[role] * len(rows))


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """The sentences on finished runs, each given by its options."""

    def tell(
        *options: dict[str, Any],
        items: Items | None = None,
        shows: Sequence[str] = ("test", "seeds", "times"),
        failed: Sequence[str] = (),
        facts: Sequence[dict[str, Any]] | None = None,
    ) -> list[str]:
        runs = []
        for place, given in enumerate(options or ({},)):
            config = config_from({**FIXED, **given})
            fact = {"seed": config.seed} if facts is None else facts[place]
            runs.append(StudyRun(f"run{place}", config, fact))
            folder = tmp_path / "runs" / f"run{place}"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text("{}")
            (items or items_of("ttve")).save(folder / "items.parquet")
        waiting = StudyRun("waiting", config_from({"steps": 7, "data": {"source": "none"}}), {"seed": 9})
        return how_obtained([waiting, *runs], tmp_path, failed, shows)

    return tell


def one(lines: Sequence[str], start: str) -> str:
    (found,) = [line for line in lines if line.startswith(start)]
    return found


def test_all_sentences_of_equal_runs(told: Told) -> None:
    assert told({"encoder.freeze": True, "steps": 1000}) == [
        "Data: photos: train 6 items of 2 classes, validation 3 items of 1 classes, test 3 items of 1 classes (seed "
        "0). A class is in one split only. Runs of the same seed share splits, batches and the start of the head.",
        "Budget: 1,000 steps of 2 classes x 2 items for every setting, AdamW at 0.0005 with warm-up and cosine decay.",
        "Encoder: tf_efficientnet_lite0, frozen; its features were computed once and the head alone was trained.",
        "The weights that are tested are those with the best MAP@R on the validation classes. The test split is "
        "embedded once before training, as the starting line, and once at the end; no option was chosen on it.",
        "Seeds: 0. One repeat: small differences say nothing. Give --seeds 4 or more.",
        "recall@1 and MAP@R are of each test item against all others; MAP@R divides by the number of positives.",
        "The time of a run includes its evaluations, and that of computing the features where they were not in the "
        "cache.",
    ]


def test_a_page_without_test_seeds_or_times_says_nothing_of_them(told: Told) -> None:
    lines = told(shows=(), failed=["run9: the disk is full"])
    assert [line.partition(":")[0] for line in lines] == ["Data", "Budget", "Encoder", "Failed, and left out"]
    assert lines[-1] == "Failed, and left out: run9: the disk is full"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (({"task": "image-text"},), "those with the best recall@1 from text to image on the validation classes. The"),
        (({}, {"task": "image-text"}), "The test split is embedded once before training"),
        (({}, {"data": {"source": "some/photos", "validation": 0.0}}), "The test split is embedded once before"),
    ],
)
def test_which_weights_are_tested(told: Told, given: Sequence[dict[str, Any]], said: str) -> None:
    line = told(*given)[3]
    assert said in line
    assert ("weights that are tested" in line) is (len(given) == 1)


def test_without_validation_the_last_weights_are_tested(told: Told) -> None:
    line = told({"data": {"source": "some/photos", "validation": 0.0}}, items=items_of("tte"))[3]
    assert line.startswith("The weights that are tested are those of the last step. The test split")


def test_queries_with_a_gallery_are_not_compared_with_all_others(told: Told) -> None:
    lines = told(items=items_of("ttve", role="query"))
    assert "MAP@R divides by the number of positives." in lines
    assert not any("against all others" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "start", "end"),
    [
        (({}, {"loss": "circle"}), "Data: photos:", "same seed share splits, batches and the start of the head."),
        (({}, {"batch": THREE}), "Data: photos:", "share splits and the start of the head."),
        (({}, {"encoder.dim": 8}), "Data: photos:", "seed share splits and batches."),
        (({}, {"encoder.dim": 8, "batch": THREE}), "Data: photos:", "Runs of the same seed share splits."),
        (({}, {"data": OTHER}), "Data: as the table says; the first run has photos: train", "the start of the head."),
        (({}, {"data": OTHER, "encoder.dim": 8}), "Data: as the table says", "A class is in one split only."),
    ],
)
def test_what_runs_share(told: Told, given: Sequence[dict[str, Any]], start: str, end: str) -> None:
    line = told(*given)[0]
    assert line.startswith(start)
    assert line.endswith(end)


def test_classes_in_several_splits_folds_and_a_long_tail(told: Told) -> None:
    data = {"source": "some/photos", "folds": 4, "fold": 1, "long_tail": 20.0}
    lines = told({"data": data}, items=items_of("ttvss"))
    assert "Some classes are in several splits." in lines[0]
    assert lines[1:3] == [
        "Classes are split in 4 folds; fold 1 is the test.",
        "Training classes are thinned out: the largest has 20 x the smallest.",
    ]


def test_folds_that_differ_are_not_told_of_all(told: Told) -> None:
    lines = told(*({"data": {"source": "some/photos", "folds": 4, "fold": fold}} for fold in (0, 1)))
    assert not any("folds" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (({"steps": 10}, {"steps": 20}), "the steps of the table, of 2 classes x 2 items, AdamW at 0.0005"),
        (({}, {"optimizer.lr": 0.1}), "2 items for every setting, AdamW at the rates of the table"),
        (({}, {"batch": THREE}), "288 steps of 2 classes x 2 to 3 items, AdamW"),
        (({"batch": {}},), "288 steps of 3 classes x 3 items for every setting"),  # as many as the data have
    ],
)
def test_budget(told: Told, given: Sequence[dict[str, Any]], said: str) -> None:
    assert said in one(told(*given, items=items_of("tttve")), "Budget: ")


@pytest.mark.parametrize(
    ("given", "said", "cached"),
    [
        (({},), "Encoder: tf_efficientnet_lite0, fine-tuned with its head.", False),
        (
            ({}, {"encoder.freeze": True}),
            "Encoder: tf_efficientnet_lite0, frozen or fine-tuned, as the table says.",
            True,
        ),
        (({}, {"encoder.name": "resnet18"}), "Encoder: as the table says, fine-tuned with its head.", False),
    ],
)
def test_encoder_and_its_time(told: Told, given: Sequence[dict[str, Any]], said: str, cached: bool) -> None:
    lines = told(*given)
    assert one(lines, "Encoder: ") == said
    assert ("computing the features" in one(lines, "The time of a run")) is cached


def test_seeds_are_named_and_what_their_number_allows(told: Told) -> None:
    facts = [{"margin": 0.1, "seed": seed} for seed in range(4)] + [{"margin": 0.2, "seed": 0}]
    line = one(told(*({"seed": fact["seed"]} for fact in facts), facts=facts), "Seeds: 0, 1, 2, 3.")
    assert line.endswith("Intervals (a to b) and bands are 95% by Student's t over the seeds.")


def test_seeds_of_one_setting(told: Told) -> None:
    line = one(told(*({"seed": seed} for seed in (3, 5))), "Seeds: 3, 5.")
    assert "Of fewer than four repeats the runs themselves are given (a, b)" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "nt_xent"}, ""),
        ({"loss": "circle"}, "circle: the margin is the relaxation m of the paper"),
        ({"loss": "arcface"}, "arcface: the margin is in radians, of the angle to the proxy of the own class."),
        ({"loss": "sub_center_arcface"}, "in radians, of the angle to the proxy of the own class."),
        ({"loss": "tuplet_margin"}, "tuplet_margin: the margin is in radians, of the angle between the embeddings."),
        ({"loss": "sphereface"}, "sphereface: the margin multiplies the angle to the proxy of the own class."),
        ({"loss": "triplet"}, "squared Euclidean distance between unit vectors (0 to 4): d_p² + m < d_n²"),
        ({"loss": "ranked_list", "similarity": "negative_squared_euclidean"}, "between unit vectors (0 to 4)."),
        ({"loss": "ranked_list"}, "in units of the Euclidean distance between unit vectors (0 to 2)."),
        ({"loss": "cosface"}, "cosface: the margin is in units of the cosine similarity (-1 to 1)."),
        ({"loss": "triplet", "similarity": "snr"}, "triplet: the margin is in units of the similarity snr."),
    ],
)
def test_what_a_margin_is_measured_on(options: dict[str, Any], said: str) -> None:
    meaning = margin_meaning(config_from(options))
    assert said in meaning
    assert bool(meaning) is bool(said)
