"""What the doctor advises is possible in the run that it looks at, and is not what the run has already."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import yaml

from pullpush import losses
from pullpush.doctor.declaration import Cure, advise, words
from pullpush.doctor.diagnose import examine
from pullpush.doctor.findings import FINDINGS
from pullpush.doctor.findings.not_finite import not_finite_step
from pullpush.doctor.measures import Measures, measure_queries, measure_result
from pullpush.doctor.objective import Objective, objective_of
from pullpush.runs.config import Config
from pullpush.runs.options import config_from

# Measures that make each finding, in a run of 240 steps.
SOFTMAX = {"temperature": 1.0, "chance": 4.8, "floor": 3.8, "loss": 3.85, "negatives": 100.0, "step": 100.0}
TRIGGERS: dict[str, dict[str, float]] = {
    "collapse": {"embeddings/mean_cosine": 0.999},
    "near_collapse": {"embeddings/mean_cosine": 0.95, "first_embeddings/mean_cosine": 0.5, "step": 200.0},
    "modality_gap": {"modality_gap": 0.9, "positive": 0.1, "closest_cosine": 0.5, "step": 200.0},
    "dead_dimensions": {"embeddings/dead_dimensions": 60.0, "embeddings/dim": 128.0, "embeddings/items": 100.0},
    "dominating_dimension": {"embeddings/dominating_share": 0.8, "embeddings/dim": 128.0, "embeddings/items": 100.0},
    "not_finite": {"embeddings/not_finite": 3.0},
    "not_normalised": {"embeddings/norm_error": 3.0},
    "false_negatives": {"duplicates": 0.5},
    "loss_at_floor": SOFTMAX,
    "temperature_too_high": {**SOFTMAX, "loss": 4.5},
    "temperature_too_low": {**SOFTMAX, "temperature": 0.01, "effective_negatives": 1.0, "floor": 0.0},
    "loss_at_chance": {**SOFTMAX, "loss": 4.8, "floor": 0.0, "nearest": 0.1},
    "triplet_at_margin": {"loss": 0.2, "margin": 0.2, "spread": 0.001},
    "no_active_triplet": {"triplets": 9.0, "active_triplets": 0.0, "margin": 0.2},
    "miner_leaves_nothing": {"mined": 0.0, "with_positive": 1.0, "nearest": 0.5},
    "no_positives": {"with_positive": 0.0},
    "learning_rate_too_high": {"largest_update_ratio": 0.5},
    "stale_memory": {"lasting_drift": 0.9, "step": 50.0, "memory_age": 10.0},
    "shut_memory": {"memory_open": 0.0, "step": 200.0},
    "over_fitting": {
        "best_validation_recall": 0.8,
        "validation_recall": 0.5,
        "validation_error": 0.01,
        "training_recall": 0.9,
        "training_recall_at_best": 0.8,
        "best_validation_step": 60.0,
        "kept_step": 90.0,
    },
    "worse_than_start": {"map@r_before": 0.4, "map@r_after": 0.3, "recall@1_before": 0.6, "recall@1_after": 0.5},
    "no_gain": {"score_untrained": 0.4, "score_trained": 0.41, "gain": 0.01, "gain_shown": 0.0, "start_kept": 1.0},
    "classes_never_drawn": {},
    "evaluation_without_positives": {"queries": 50.0, "queries_with_positive": 0.0},
    "border_decides": {"border_recall": 0.6, "middle_recall": 0.2, "whole_recall": 0.9},
    "weights_not_loaded": {"weights_missing": 9.0, "weights_loaded": 1.0, "frozen": 1.0},
}
RUNS: dict[str, dict[str, Any]] = {
    "default": {},
    "frozen": {"encoder": {"freeze": True}},
    "image-text": {"task": "image-text"},
    "head": {"encoder": {"tune": "head"}},
    "lora": {"encoder": {"tune": "lora"}},
    "triplet": {"loss": {"name": "triplet", "kind": "hard"}, "memory": 4096, "encoder.frozen_stages": 0},
    "cured": {
        "loss": {"name": "nt_xent", "temperature": 0.07},
        "learn": "temperature",
        "memory": {"size": 0.5},
        "encoder": {"weights": "none", "head": "none"},
        "optimizer": {"clip": 0.5},
        "similarity": "cosine",
        "batch": {"classes": 8, "samples": 1, "short": "drop"},
    },
}
OPTION = re.compile(r"""--([\w.]+) ("[^"]+"|[\w.+-]*\w)""")


def advice_of(name: str, config: Config) -> str:
    objective = objective_of(config.values(), {"batch.classes": 40, "batch.samples": 3})
    if name == "classes_never_drawn":
        objective = replace(objective, run={**objective.run, "steps": 2, "batch.classes": 8})
    finding = FINDINGS[name](Measures(TRIGGERS[name]), objective)
    if name == "not_normalised":  # never of a run whose similarity is the cosine
        bare = Objective(losses.n_pair(), run=objective.run)
        finding = finding or FINDINGS[name](Measures(TRIGGERS[name]), bare)
    if finding is None and not objective.softmax:
        pytest.skip(f"{name} is not of this run")
    assert finding is not None
    assert all(words(name) != name.replace("_", " ") or "_" not in name for name in finding.evidence), finding.evidence
    return finding.advice


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", FINDINGS)
def test_advice_is_new_to_the_run_and_possible_in_it(name: str, run: str) -> None:
    config = config_from(RUNS[run])
    given = yaml.safe_dump(config.values())
    advice = advice_of(name, config)
    for option, value in OPTION.findall(advice):
        changed = config_from({**RUNS[run], option: yaml.safe_load(value)} if value else {})
        assert yaml.safe_dump(changed.values()) != given, (option, value)
        assert not (config.encoder.freeze and option in ("encoder.augment", "encoder.frozen_stages", "encoder.flip"))
        if option == "batch.classes":
            assert changed.batch.classes <= 40
        if option == "batch.samples":
            assert changed.batch.samples <= 3
    assert "--" not in OPTION.sub("", advice), advice
    assert advice[0].isupper() or advice.startswith("--")
    assert advice.endswith(".")


def test_options_that_are_set_or_can_not_be_are_left_out_and_the_rest_stays() -> None:
    objective = Objective(run={"steps": 10, "encoder.freeze": True}, limits={"batch.classes": 5})
    cures = [
        Cure("{} is long", {"steps": 10}),
        Cure("both: {}", {"steps": 10, "seed": 1}),
        Cure("{}", {"encoder.augment": True}),
        Cure("{}", {"batch.classes": 6}),
        Cure("look at the data"),
    ]
    assert advise(objective, *cures) == "Both: --seed 1; or look at the data."
    assert advise(Objective(), cures[2]) == "--encoder.augment true."
    assert "set already" in advise(objective, cures[0])


def test_the_kept_step_is_that_of_the_weights_that_are_kept() -> None:
    advice = advice_of("over_fitting", config_from({}))
    assert "--steps 60" in advice
    assert "step 90" in advice


def test_not_finite_step_is_advised_by_the_run() -> None:
    objective = objective_of(config_from({"optimizer.clip": 1.0, "data": "photos"}).values())
    advice = not_finite_step(3, "input 0", objective).advice
    assert "--optimizer.clip 0.1" in advice
    assert "--optimizer.lr 5e-05" in advice
    assert "`pullpush data photos`" in advice


def test_a_result_worse_than_the_untrained_model_is_critical() -> None:
    test = {"before": {"map@r": 0.4, "recall@1": 0.5}, "after": {"map@r": 0.39, "recall@1": 0.6}}
    (finding,) = examine(measure_result(test), Objective())
    assert (finding.finding, finding.severity) == ("worse_than_start", "critical")
    assert finding.evidence["map@r_after"] == 0.39
    for same in (0.4, 0.3999):  # as far as one could see
        assert not examine(measure_result({**test, "after": {**test["after"], "map@r": same}}), Objective())
    assert not examine(measure_result({"before": {}, "after": {}}), Objective())
    both = {when: {**each, "text_to_image/recall@1": 0.1} for when, each in test.items()}
    assert not examine(measure_result(both), Objective())  # the direction that weights are chosen by is no worse


def test_texts_are_the_queries_where_images_are_searched_by_text() -> None:
    items = pd.DataFrame({"id": [7, 8, 9], "label": [0, 1, 2], "role": "both"})
    texts = pd.DataFrame({"label": [7, 8, 8, 9]})
    assert measure_queries(items)["queries_with_positive"] == 0
    assert measure_queries(items, texts, "id") == {"queries": 4, "queries_with_positive": 1}
    twice = items.assign(label=[0, 0, 1], role=["query", "gallery", "query"])
    assert measure_queries(twice) == {"queries": 2, "queries_with_positive": 0.5}
