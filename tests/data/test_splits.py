import numpy as np
import pytest

from pullpush.data.sources import open_items
from pullpush.data.splits import check_disjoint, class_folds, long_tail, split_by_class
from pullpush.errors import UserError


def classes_of(items, split):
    part = items.split(split)
    return {part.classes[label] for label in part.table["label"]}


def test_shares_and_disjointness(fake_items):
    items = split_by_class(fake_items([3] * 50), seed=1)
    parts = [classes_of(items, split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [20, 5, 25]
    assert len(set.union(*parts)) == 50
    assert split_by_class(fake_items([3] * 50), validation=0).table["split"].nunique() == 2


def test_the_split_hangs_on_names_and_seed_only(fake_items):
    items = fake_items([2] * 30)
    order = np.random.default_rng(0).permutation(len(items))
    for seed in range(3):
        one, other = split_by_class(items, seed=seed), split_by_class(items.select(order), seed=seed)
        assert classes_of(one, "test") == classes_of(other, "test")
        assert classes_of(one, "validation") == classes_of(other, "validation")
    assert classes_of(split_by_class(items, seed=0), "test") != classes_of(split_by_class(items, seed=1), "test")


def test_given_splits_are_kept(fake_items):
    given = ["train"] * 40 + ["test"] * 20
    items = split_by_class(fake_items([2] * 30, split=given), validation=0.2)
    assert (items.table["split"][40:] == "test").all()
    assert len(classes_of(items, "validation")) == 4
    assert "4 of the 20 given training classes" in items.notes[-1]
    three = ["train"] * 20 + ["validation"] * 20 + ["test"] * 20
    assert split_by_class(fake_items([2] * 30, split=three)).table["split"].tolist() == three
    only = split_by_class(fake_items([2] * 30, split=["train"] * 40 + ["validation"] * 20), validation=0.1)
    assert classes_of(only, "test") == {f"class {i:03d}" for i in range(20, 30)}
    assert any("validation split is the test" in note for note in only.notes)


@pytest.mark.parametrize(
    ("sizes", "split", "options", "message"),
    [
        ([2, 2, 2], "", {}, "3 classes are too few"),
        ([2] * 9, "", {"test": 1.0}, "must be shares"),
        ([2] * 9, "", {"test": 0.6, "validation": 0.5}, "must be shares"),
        (
            [2, 2],
            ["train", "test", "test", "test"],
            {},
            r"1 of 2 test classes are in the train split too \(class 000\)",
        ),
        ([2, 2], ["train", "train", "", ""], {}, "2 of 4 items have no split"),
        ([2, 2], ["test"] * 4, {}, "no training items"),
        ([2, 2, 2], ["train"] * 4 + ["test"] * 2, {}, "2 training classes are too few"),
    ],
)
def test_impossible_splits(fake_items, sizes, split, options, message):
    with pytest.raises(UserError, match=message):
        split_by_class(fake_items(sizes, split=split), **options)


def test_held_out_vendor_is_never_trained_on():
    items = split_by_class(open_items("emoji", held_out="Samsung"), seed=0)
    for split in ("train", "validation"):
        assert "Samsung" not in set(items.split(split).table["domain"])
    test = items.split("test").table
    assert set(test["domain"][test["role"] == "query"]) == {"Samsung"}
    assert "Samsung" not in set(test["domain"][test["role"] == "gallery"])
    assert set(items.split("train").table["role"]) == {"both"}


def test_what_holds_out_all_that_is_trained_on_is_refused(fake_items):
    with pytest.raises(UserError, match="nothing is left to train on where photos are held out"):
        split_by_class(fake_items([4] * 12, domain="photos", held_out=True))


def test_folds_cover_each_class_once_and_spare_the_test(fake_items):
    items = split_by_class(fake_items([2] * 40), test=0.5, validation=0.1)
    folds = class_folds(items, 4, seed=3)
    seen = [name for fold in folds for name in classes_of(fold, "validation")]
    assert sorted(seen) == sorted(classes_of(items, "train") | classes_of(items, "validation"))
    for fold in folds:
        check_disjoint(fold)
        assert classes_of(fold, "test") == classes_of(items, "test")
    with pytest.raises(UserError, match="cannot be divided"):
        class_folds(fake_items([2] * 3), 4)


def test_long_tail_follows_the_exponential_rule(fake_items):
    items = long_tail(fake_items([100] * 11), seed=0, ratio=10)
    sizes = sorted(items.table["label"].value_counts(), reverse=True)
    assert sizes == [round(100 * 10 ** (-i / 10)) for i in range(11)]
    assert sizes[0] == 10 * sizes[-1]
    again = long_tail(fake_items([100] * 11), seed=0, ratio=10)
    assert again.ids.tolist() == items.ids.tolist()
    assert long_tail(fake_items([100] * 11), seed=1, ratio=10).ids.tolist() != items.ids.tolist()


def test_long_tail_leaves_the_test_and_every_class(fake_items):
    items = split_by_class(fake_items([5] * 40))
    tail = long_tail(items, ratio=50)
    for split in ("validation", "test"):
        assert tail.split(split).ids.tolist() == items.split(split).ids.tolist()
    assert classes_of(tail, "train") == classes_of(items, "train")
    assert len(long_tail(items, ratio=1)) == len(items)
    with pytest.raises(UserError, match="1 or more"):
        long_tail(items, ratio=0.5)
