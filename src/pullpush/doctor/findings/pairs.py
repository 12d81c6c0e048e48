"""Batches and evaluations without pairs to compare, and equal items that count as negatives."""

from pullpush.doctor.declaration import SIDES, Cure, Curves, Measures, Objective, Symptom, finding
from pullpush.doctor.findings.collapse import is_collapsed

__all__ = ["evaluation_without_positives", "false_negatives", "miner_leaves_nothing", "no_positives"]

# Share with a positive, below which most of the work is in vain.
MOST = 0.5
LOOKS = 2
# Share of the items that equal one of another class.
DUPLICATES = 0.02


@finding(
    "warning",
    seen="less than half of the anchors have a positive in the batch; critical where none has",
    cure="`--batch.samples 4`",
    words={"anchors_with_positive": "share of anchors with a positive"},
    figure=Curves("Anchors with a positive", "share", {"with_positive": "in the batch"}),
)
def no_positives(m: Measures, o: Objective) -> Symptom | None:
    """Most anchors meet no other item of their class in the batch. Without a positive an anchor gives nothing, or is
    only pushed away."""
    share = m["with_positive"]
    if share < MOST:
        samples = int(min(4, o.limits.get("batch.samples", 4)))
        alone = o.run.get("batch.samples", 1) < 2
        cures = [
            Cure("{}", {"batch.samples": samples} if alone else {"batch.short": "drop"}),
            Cure("label the items so that most classes have two or more"),
        ]
        note = "A batch needs at least two items of a class, of different ids."
        return Symptom({"anchors_with_positive": share}, cures, note, "critical" if share == 0 else None)
    return None


@finding(
    "warning",
    seen=f"no anchor keeps a pair, at {LOOKS} looks in a row, although not every nearest reference is right",
    cure="`--miner none`, its options",
    words={"anchors_with_pairs": "share of anchors that keep a pair"},
    figure=Curves("Anchors that keep a pair", "share", {"mined": "after the miner"}),
)
def miner_leaves_nothing(m: Measures, o: Objective) -> Symptom | None:
    """The miner keeps no pair of the batch, so there is nothing to compute a loss from."""
    # A batch without any mistake has nothing to mine.
    mistakes = m["nearest"] < 1
    if m["mined"] == 0 and m["with_positive"] > 0 and mistakes and not m["looks_without_mined"] < LOOKS:
        note = f"The options of {o.run.get('miner', 'the miner')} are too strict for these similarities."
        evidence = {"anchors_with_pairs": m["mined"], "anchors": m["anchors"]}
        return Symptom(evidence, [Cure("{} keeps all pairs", {"miner": "none"})], note)
    return None


@finding(
    "warning",
    seen="less than half of the test queries have another item of their class; critical where none has",
    cure="labels that several items share, other splits, a gallery",
    words={"queries_with_positive": "share of queries with a positive"},
)
def evaluation_without_positives(m: Measures, o: Objective) -> Symptom | None:
    """Queries whose class has no other item can't be answered and count in no metric: what is left says little."""
    share = m["queries_with_positive"]
    if share < MOST:
        cures = [
            Cure("label the items so that most classes of the test have two or more"),
            Cure("give a gallery with items of the queries' classes"),
        ]
        evidence = {"queries_with_positive": share, "queries": m["queries"]}
        return Symptom(evidence, cures, severity="critical" if share == 0 else None)
    return None


@finding(
    "warning",
    seen=f"more than {DUPLICATES:.0%} of the items equal one of another class",
    cure="one label for equal items; `pullpush data` lists them",
    words={"share_of_items": "share of items with an equal one of another class"},
)
def false_negatives(m: Measures, o: Objective) -> Symptom | None:
    """Equal items carry different labels, and the loss pushes apart what can't be told apart."""
    sure = m["duplicates"] - m.get("duplicates_error", 0.0)
    if sure > DUPLICATES and not any(is_collapsed(m, side) for side in SIDES):
        classes = int(o.run.get("batch.classes", 0)) // 2
        cures = [
            Cure("give equal items one label, or remove one of them"),
            Cure("meet fewer of them in a batch: {}", {"batch.classes": classes} if classes > 1 else {}),
        ]
        note = f"`pullpush data {o.run.get('data.source', 'FOLDER')}` lists what is equal."
        return Symptom({"share_of_items": m["duplicates"]}, cures, note)
    return None
