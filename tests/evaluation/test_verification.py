"""Verification against its definition, pair by pair, and against scikit-learn; in both ways of counting."""

import itertools
import math

import numpy as np
import pytest
from pyeer import eer_stats
from sklearn.metrics import roc_curve

from pullpush.errors import UserError
from pullpush.evaluation import pairs, rates, streaming, verify
from pullpush.evaluation.scan import Scan, compiled, scan
from pullpush.evaluation.verification import named

FARS = (0.2, 0.05, 0.01)


def made(items: int = 240, classes: int = 25, dim: int = 6, noise: float = 0.6, grain: float = 0.0, seed: int = 0):
    """Noisy classes of uneven sizes; with a grain, coordinates are few, so that many cosines are tied."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, items - classes)]))
    x = rng.standard_normal((classes, dim))[labels] + noise * rng.standard_normal((items, dim))
    x = np.round(x / grain) * grain + 0.01 if grain else x
    return x.astype(np.float32), labels


@pytest.fixture(params=["each pair", "few pairs", "few pairs in small tiles", "few pairs in small tiles, compiled"])
def way(request, monkeypatch) -> str:
    """Each pair is added to the counts; or only those that matter, as of many."""
    if request.param != "each pair":
        monkeypatch.setattr(rates, "FULL", 0)
    if "tiles" in request.param:
        for name, value in {"ROWS": 13, "COLUMNS": 40, "FLUSH": 50}.items():
            monkeypatch.setattr(streaming, name, value)
    if "compiled" in request.param:
        monkeypatch.setattr(streaming, "COMPILED", 0)
    return request.param


def scores_of(x, labels, ids=None):
    """The cosine of each pair of distinct items, rounded as it says, and whether it is of one class; written out."""
    u = pairs_unit(x)
    first = {}
    for row in range(len(x)):
        first.setdefault(row if ids is None else ids[row], row)
    rows = sorted(first.values())
    each = list(itertools.combinations(rows, 2))
    cosines = np.array([float(u[i].astype(np.float32) @ u[j].astype(np.float32)) for i, j in each])
    same = np.array([labels[i] == labels[j] for i, j in each])
    return pairs.place(cosines), same


def pairs_unit(x):
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def oracle(places, same, fars):
    """EER and true accept rates, threshold by threshold."""
    points = [(0.0, 0.0)]  # FAR, TAR from the threshold that accepts nothing downwards
    for threshold in sorted(set(places.tolist()), reverse=True):
        accepted = places >= threshold
        points.append((accepted[~same].mean(), accepted[same].mean()))
    found = {f"tar@far={far}": max(t for f, t in points if f <= far + 1e-12) for far in fars}
    for (f0, t0), (f1, t1) in itertools.pairwise(points):
        before, after = f0 - (1 - t0), f1 - (1 - t1)
        if before <= 0 <= after and "eer" not in found:
            found["eer"] = f0 + (f1 - f0) * (before / (before - after) if before != after else 0.0)
    return found


@pytest.mark.parametrize("grain", [0.0, 0.5, 1.5], ids=["no ties", "ties", "many ties"])
def test_it_is_what_the_definition_says(way: str, grain: float) -> None:
    x, labels = made(items=130, grain=grain)
    found = verify(x, labels, fars=FARS, replicates=0)
    places, same = scores_of(x, labels)
    expected = oracle(places, same, FARS)
    assert (found.positives, found.negatives) == (same.sum(), (~same).sum())
    # a cosine computed in another order may fall on the other side of a step: one pair of one class may change sides
    loose = 1.5 / same.sum() if not grain else 0.02
    for far in FARS:
        name = f"tar@far={float(f'{far:e}'.split('e')[0]):g}e{int(f'{far:e}'.split('e')[1])}"
        assert found.metrics[name] == pytest.approx(expected[f"tar@far={far}"], abs=loose)
    assert found.metrics["eer"] == pytest.approx(expected["eer"], abs=loose)


def test_it_is_what_scikit_learn_finds(way: str) -> None:
    x, labels = made(items=400, noise=0.9, dim=12)
    found = verify(x, labels, fars=FARS)
    u, (i, j) = pairs_unit(x), np.triu_indices(len(x), 1)
    far, tar, threshold = roc_curve(labels[i] == labels[j], (u @ u.T)[i, j], drop_intermediate=False)
    cross = int(np.argmax(far >= 1 - tar))
    low, high = sorted((1 - tar[cross], far[cross - 1]))
    assert low - 1e-9 <= found.metrics["eer"] <= max(far[cross], 1 - tar[cross - 1], high) + 1e-9
    assert found.thresholds["eer"] == pytest.approx(threshold[cross - 1], abs=1e-4)
    for name, rate in zip(("tar@far=2e-1", "tar@far=5e-2", "tar@far=1e-2"), FARS, strict=True):
        assert found.metrics[name] == pytest.approx(tar[far <= rate].max(), abs=2e-4)
        assert found.thresholds[name] == pytest.approx(threshold[far <= rate][-1], abs=1e-5)
    near = np.searchsorted(-threshold, -found.curve["threshold"] + pairs.STEP / 2, side="right") - 1
    counted = (far[near] <= max(FARS)) | (way == "each pair")  # others are estimated
    np.testing.assert_allclose(found.curve["far"][counted], far[near][counted], atol=1e-4)
    np.testing.assert_allclose(found.curve["far"], far[near], atol=5e-3)
    np.testing.assert_allclose(found.curve["tar"], tar[near], atol=1e-3)


@pytest.mark.parametrize("grain", [0.0, 0.5, 1.5], ids=["no ties", "ties", "many ties"])
def test_it_is_what_pyeer_finds(grain: float) -> None:
    """Within the difference of the definitions: pyeer's equal error rate is the mean of both rates at one of the two
    thresholds around the crossing, ours lies where straight lines between the two cross. Its rate of false rejects is
    at the threshold whose false accept rate is nearest to the one that is asked for, above it or below; asked for just
    that one, both are the same."""
    x, labels = made(items=130, grain=grain)
    places, same = scores_of(x, labels)
    scores = pairs.cosine(places)
    _, far, frr = eer_stats.calculate_roc(scores[same], scores[~same])
    loose = 1.5 / same.sum() if not grain else 0.02  # as above
    cross = int(np.argmax(far <= frr))
    around = np.stack([far, frr])[:, cross - 1 : cross + 1]
    ours, theirs = verify(x, labels, fars=FARS, replicates=0).metrics["eer"], eer_stats.get_eer_values(far, frr)[-1]
    assert around.min() - loose <= ours <= around.max() + loose
    assert abs(ours - theirs) <= np.ptp(around) / 2 + loose
    for rate in FARS:
        at, missed = eer_stats.get_fmr_op(far, frr, rate)
        found = verify(x, labels, fars=(far[at],), replicates=0).metrics
        assert found[named("tar", far[at])] == pytest.approx(1 - missed, abs=loose)


def test_the_ways_agree_to_the_last_pair(monkeypatch) -> None:
    """All that is exact is equal, whether each pair is added or few, in one thread's tiles or in small ones."""
    x, labels = made(items=700, classes=60, noise=0.8)
    one = verify(x, labels, fars=FARS)
    monkeypatch.setattr(rates, "FULL", 0)
    other = verify(x, labels, fars=FARS)
    assert other.metrics == one.metrics
    assert other.thresholds == one.thresholds
    for name, ends in one.intervals.items():
        np.testing.assert_allclose(other.intervals[name], ends, atol=0.01)
    np.testing.assert_allclose(other.histogram["same"], one.histogram["same"])
    np.testing.assert_allclose(other.histogram["different"], one.histogram["different"], atol=2e-3)


@pytest.mark.parametrize("columns", [1, 40, 61])
@pytest.mark.parametrize("zone", [None, (-0.1, 0.2)])
def test_the_compiled_scan_takes_the_same_pairs(columns: int, zone: tuple[float, float] | None) -> None:
    assert compiled() is not scan  # numba is there, so this compares two
    rng = np.random.default_rng(columns)
    tile = np.clip(rng.standard_normal((23, columns)) / 2, -1, 1).astype(np.float32)
    tile[rng.random(tile.shape) < 0.1] = streaming.APART
    floor, *ends = pairs.place(np.array([0.5, *(zone or ())], np.float32)).tolist()
    tile[0, 0], tile[1, 0], tile[2, 0] = pairs.edge(floor), 1.0, np.nextafter(pairs.edge(floor), np.float32(-1))
    for least in (0, floor, floor + 50_000):
        found = []
        for each in (scan, compiled()):
            counts, mask = np.zeros(pairs.SIZE, np.int64), np.empty((2, 23 * 64), np.bool_)
            found.append((*each(tile, Scan(floor, tuple(ends) if zone else None), least, counts, mask), counts))
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)
        assert found[0][3].sum() > 1


def test_a_sample_that_misleads_costs_a_second_pass_and_nothing_else(monkeypatch) -> None:
    x, labels = made(items=500, noise=0.9)
    expected = verify(x, labels, fars=FARS)
    monkeypatch.setattr(rates, "FULL", 0)
    sampled, passes = rates.sampled, []
    monkeypatch.setattr(rates, "sampled", lambda *given: tuple(each // 2 + pairs.SIZE // 2 for each in sampled(*given)))
    monkeypatch.setattr(rates, "stream", lambda *given: passes.append(1) or streaming.stream(*given))
    found = verify(x, labels, fars=FARS)
    assert found.metrics == expected.metrics
    assert found.thresholds == expected.thresholds
    assert len(passes) > 1


@pytest.mark.parametrize("share", [0.97, 1.0, 1.03])
def test_a_rate_beside_the_equal_error_rate(monkeypatch, share: float) -> None:
    """What is counted pair by pair for the one reaches into what is for the other."""
    x, labels = made(items=600, classes=60, noise=0.9)
    fars = (share * verify(x, labels, fars=(), replicates=0).metrics["eer"],)
    expected = verify(x, labels, fars=fars)
    monkeypatch.setattr(rates, "FULL", 0)
    passes = []
    monkeypatch.setattr(rates, "stream", lambda *given: passes.append(1) or streaming.stream(*given))
    found = verify(x, labels, fars=fars)
    assert (found.metrics, found.thresholds) == (expected.metrics, expected.thresholds)
    assert len(passes) == 1


def test_queries_against_a_gallery(way: str) -> None:
    """All of both sides, but for an item with itself."""
    x, labels = made(items=200)
    ids = np.arange(len(x))
    q, g = slice(0, 120), slice(90, 200)  # 30 items on both sides
    found = verify(x[q], labels[q], ids[q], gallery=x[g], gallery_labels=labels[g], gallery_ids=ids[g], fars=FARS)
    u = pairs_unit(x)
    each = [(i, j) for i in ids[q] for j in ids[g] if i != j]
    same = np.array([labels[i] == labels[j] for i, j in each])
    places = pairs.place([u[i] @ u[j] for i, j in each])
    expected = oracle(places, same, FARS)
    assert (found.positives, found.negatives) == (same.sum(), (~same).sum())
    assert found.metrics["eer"] == pytest.approx(expected["eer"], abs=0.003)
    assert found.metrics["tar@far=5e-2"] == pytest.approx(expected["tar@far=0.05"], abs=0.005)


def test_ties_never_help(way: str) -> None:
    """A collapsed model: a threshold accepts all pairs or none."""
    _, labels = made()
    found = verify(np.ones((len(labels), 6)), labels, fars=FARS)
    assert found.metrics == {"eer": 0.5, "tar@far=2e-1": 0, "tar@far=5e-2": 0, "tar@far=1e-2": 0}
    assert found.thresholds["tar@far=1e-2"] > 1


def test_an_item_listed_twice_counts_once(way: str) -> None:
    x, labels = made()
    twice = np.r_[np.arange(len(x)), np.arange(50)]
    assert verify(x[twice], labels[twice], twice, fars=FARS).metrics == verify(x, labels, fars=FARS).metrics


def test_order_and_names_change_nothing() -> None:
    x, labels = made()
    order = np.random.default_rng(1).permutation(len(x))
    names = np.array([f"class {label}" for label in labels])
    one, other = verify(x, labels, fars=FARS), verify(7 * x[order], names[order], fars=FARS)
    for name, value in one.metrics.items():
        assert other.metrics[name] == pytest.approx(value, abs=2e-3)


def test_intervals_are_those_of_a_bootstrap_over_classes() -> None:
    """Written out: classes drawn with their pairs, a pair of two classes as often as both were drawn."""
    x, labels = made(items=300, classes=40, noise=0.7)
    found = verify(x, labels, fars=(0.05,), replicates=2000)
    places, same = scores_of(x, labels)
    (i, j), rng = np.triu_indices(len(x), 1), np.random.default_rng(3)
    order = np.argsort(-places)
    values = {"eer": [], "tar@far=5e-2": []}
    for _ in range(250):
        drawn = np.bincount(rng.integers(0, 40, 40), minlength=40)
        weights = np.where(same, drawn[labels[i]], drawn[labels[i]] * drawn[labels[j]])[order]
        far = np.cumsum(weights * ~same[order]) / (weights * ~same[order]).sum()
        tar = np.cumsum(weights * same[order]) / (weights * same[order]).sum()
        values["eer"].append(far[np.argmax(far >= 1 - tar)])
        values["tar@far=5e-2"].append(tar[far <= 0.05].max(initial=0))
    for name, each in values.items():
        low, high = np.percentile(each, [2.5, 97.5])
        width = high - low
        assert found.intervals[name] == pytest.approx((low, high), abs=0.3 * width)


def test_groups_at_the_thresholds_of_all(way: str) -> None:
    x, labels = made(items=150)
    groups = {"category": np.array(["even", "odd"])[labels % 2], "domain": np.arange(len(x)) % 3}
    found = verify(x, labels, fars=(0.05,), groups=groups)
    u, (i, j) = pairs_unit(x), np.triu_indices(len(x), 1)
    accepted = (u @ u.T)[i, j] >= found.thresholds["tar@far=5e-2"] - pairs.STEP / 2
    same = labels[i] == labels[j]
    assert list(found.per_group.index.get_level_values("group")) == ["even", "odd", "0", "1", "2"]
    for (grouping, group), row in found.per_group.iterrows():
        mine = groups[grouping].astype(str) == group
        touched = mine[i] | mine[j]
        assert (row["items"], row["positives"], row["negatives"]) == (
            mine.sum(),
            (touched & same).sum(),
            (touched & ~same).sum(),
        )
        assert row["tar@far=5e-2"] == pytest.approx(accepted[touched & same].mean(), abs=2 / (touched & same).sum())
        assert row["far@far=5e-2"] == pytest.approx(accepted[touched & ~same].mean(), abs=1e-3)


def test_an_item_on_both_sides_is_one_of_its_group() -> None:
    x, labels = made(items=60, classes=6)
    half, ids = {"half": np.arange(60) < 20}, np.arange(60)
    some = slice(10, 60)
    against = {"gallery": x[some], "gallery_labels": labels[some], "gallery_ids": ids[some]}
    against["gallery_groups"] = {"half": half["half"][some]}
    found = verify(x[:30], labels[:30], ids[:30], groups={"half": half["half"][:30]}, fars=(0.1,), **against)
    assert found.per_group["items"].to_dict() == {("half", "False"): 40, ("half", "True"): 20}


def test_as_json_and_what_cannot_be_told() -> None:
    x, labels = made(items=60, classes=6)
    values = verify(x, labels, fars=(0.1, 1e-5)).values()
    assert values["tar@far=1e-5"] is None
    assert values["threshold@far=1e-5"] is None
    assert values["tar@far=1e-1_low"] <= values["tar@far=1e-1"] <= values["tar@far=1e-1_high"]
    assert values["eer_low"] <= values["eer"] <= values["eer_high"]
    assert -1 <= values["threshold"] <= values["threshold@far=1e-1"] + 1
    assert (values["items"], values["classes"]) == (60, 6)


X, LABELS = made(items=20, classes=4)
BAD = {
    "one class": (lambda: verify(X, LABELS * 0), "at least two classes"),
    "no two of a class": (lambda: verify(X, np.arange(20)), "at least two items"),
    "one item": (lambda: verify(X[:1], LABELS[:1]), "at least two items"),
    "NaN": (lambda: verify(X * math.nan, LABELS), "NaN"),
    "other length": (lambda: verify(X, LABELS[:7]), "20 rows"),
    "rate": (lambda: verify(X, LABELS, fars=(0.1, 0.0)), "false accept rate must be above 0 and below 1, not 0.0"),
    "confidence": (lambda: verify(X, LABELS, confidence=95), "confidence 95"),
    "groups": (lambda: verify(X, LABELS, groups={"category": [1, 2]}), "groups of 'category'.*20 rows"),
    "groups of one side": (
        lambda: verify(X, LABELS, gallery=X, gallery_labels=LABELS, groups={"category": LABELS}),
        "give gallery_groups too",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
