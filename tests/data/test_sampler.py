"""The laws of the samplers: shape, every class once a pass, exact position, disjoint ranks, nothing global."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from pullpush.data.sampler import ClassBalancedSampler, ShuffledSampler, seen_per_class
from pullpush.errors import UserError


def labels_of(sizes):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)) * 3 + 5, sizes))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=30),
    classes=st.integers(1, 3),
    samples=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_pass_has_every_class_in_full_batches(sizes, classes, samples, seed):
    labels = labels_of(sizes)
    sampler = ClassBalancedSampler(labels, classes, samples, seed=seed)
    for _ in range(2):
        batches = list(sampler)
        assert len(batches) == -(-len(sizes) // classes)
        for batch in batches:
            names, counts = np.unique(labels[batch], return_counts=True)
            assert len(names) == classes
            assert (counts == samples).all()
            for name in names:
                rows = [row for row in batch if labels[row] == name]
                assert len(set(rows)) == min(samples, (labels == name).sum())
        assert set(labels[np.concatenate(batches)]) == set(labels)


def test_visits_go_through_all_items_before_one_comes_again():
    labels = labels_of([12] * 6)
    sampler = ClassBalancedSampler(labels, 3, 4, passes=3)
    rows = [row for batch in sampler for row in batch]
    assert sorted(rows) == list(range(72))
    assert sorted(row for batch in sampler for row in batch) == list(range(72))
    again = ClassBalancedSampler(labels, 3, 4, passes=6)
    assert [row for batch in again for row in batch][72:] != rows


def test_short_classes_are_repeated_or_dropped_and_counted():
    labels = np.repeat([0, 1, 2], [2, 5, 6])
    repeat = ClassBalancedSampler(labels, 2, 4)
    assert "1 of 3 classes have fewer than 4 items (2 items): their items are repeated" in repeat.notes[0]
    drop = ClassBalancedSampler(labels, 2, 4, short="drop")
    assert "left out" in drop.notes[0]
    assert {int(labels[row]) for batch in drop for row in batch} == {1, 2}
    assert ClassBalancedSampler(labels, 2, 2).notes == []


@pytest.mark.parametrize("position", [0, 1, 5, 7, 8, 23])
def test_a_restored_sampler_continues_exactly(position):
    labels = labels_of([4, 7, 2, 6, 5, 4, 9, 3, 5, 5, 6])
    make = lambda: ClassBalancedSampler(labels, 3, 4, seed=9, passes=None)  # noqa: E731
    whole = list(islice(make(), 40))
    first = make()
    assert list(islice(first, position)) == whole[:position]
    second = make()
    second.load_state_dict(first.state_dict())
    assert list(islice(second, 40 - position)) == whole[position:]
    third = make()
    third.seek(position)
    assert next(iter(third)) == whole[position]
    third.seek(0)
    assert next(iter(third)) == whole[0]


def test_one_pass_at_a_time_equals_endless_and_a_resumed_pass_ends_where_it_should():
    labels = labels_of([4] * 7)
    endless = list(islice(ClassBalancedSampler(labels, 2, 2, passes=None), 12))
    by_pass = ClassBalancedSampler(labels, 2, 2)
    assert [batch for _ in range(3) for batch in by_pass] == endless
    by_pass.seek(6)
    assert list(by_pass) == endless[6:8]
    assert len(by_pass) == 4


def test_seeds_differ_and_global_state_is_untouched():
    labels = labels_of([4] * 20)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.get_state()[1].copy(), torch.get_rng_state()
    runs = [list(ClassBalancedSampler(labels, 4, 2, seed=seed)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert (np.random.get_state()[1] == expected[0]).all()
    assert torch.equal(torch.get_rng_state(), expected[1])


def test_ranks_are_disjoint_parts_of_one_batch():
    labels = labels_of([5] * 13)
    whole = list(ClassBalancedSampler(labels, 4, 3, seed=2))
    parts = [list(ClassBalancedSampler(labels, 4, 3, seed=2, rank=rank, world=2)) for rank in range(2)]
    for both, first, second in zip(whole, *parts, strict=True):
        assert first + second == both
        assert not set(labels[first]) & set(labels[second])
    rows = list(ShuffledSampler(50, 10, seed=2))
    halves = [list(ShuffledSampler(50, 10, seed=2, rank=rank, world=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == rows


def test_dataloader_that_fetches_ahead():
    labels = labels_of([5] * 12)
    data = TensorDataset(torch.arange(len(labels)))
    expected = list(islice(ClassBalancedSampler(labels, 3, 2, passes=None), 9))
    sampler = ClassBalancedSampler(labels, 3, 2, passes=None)
    loader = iter(DataLoader(data, batch_sampler=sampler, num_workers=2))
    assert [next(loader)[0].tolist() for _ in range(4)] == expected[:4]
    assert sampler.position > 4  # the workers are ahead
    sampler.seek(4)
    state = sampler.state_dict()
    resumed = ClassBalancedSampler(labels, 3, 2, passes=None)
    resumed.load_state_dict(state)
    assert [b[0].tolist() for b in islice(DataLoader(data, batch_sampler=resumed), 5)] == expected[4:]


def test_shuffled_pass():
    sampler = ShuffledSampler(23, 5, seed=1)
    first, second = list(sampler), list(sampler)
    assert len(sampler) == len(first) == 4
    assert len({row for batch in first for row in batch}) == 20
    assert first != second
    sampler.seek(5)
    assert list(sampler) == second[1:]


def test_keys_are_kept_apart():
    keys = [f"text {i % 15}" for i in range(60)]
    sampler = ShuffledSampler(60, 10, keys=keys, seed=4)
    batches = list(sampler)
    assert len(batches) == len(set(map(tuple, batches))) >= 5
    assert len({row for batch in batches for row in batch}) == 10 * len(batches)
    assert all(len({keys[row] for row in batch}) == 10 for batch in batches)

    labels = np.repeat(np.arange(20), 3)
    shared = [f"name {label // 2}" for label in labels]  # classes 2i and 2i + 1 have one name
    balanced = ClassBalancedSampler(labels, 6, 2, keys=shared)
    for _ in range(3):
        batches = list(balanced)
        assert {int(labels[row]) for batch in batches for row in batch} == set(range(20))
        for batch in batches:
            assert len({shared[row] for row in batch}) == 6
    position = balanced.position
    rest = list(islice(balanced, 2))
    balanced.seek(position)
    assert list(islice(balanced, 2)) == rest
    with pytest.raises(UserError, match="without a key coming twice"):
        list(ClassBalancedSampler(labels, 11, 2, keys=shared))


def test_seen_per_class_counts_what_is_shown():
    labels = np.repeat([7, 8, 9, 10], [50, 20, 5, 1])
    sampler = ClassBalancedSampler(labels, 2, 4, passes=None)
    next(iter(sampler))
    names, sizes, shown = seen_per_class(sampler, labels, 10)
    assert names.tolist() == [7, 8, 9, 10]
    assert sizes.tolist() == [50, 20, 5, 1]
    assert shown.tolist() == [20, 20, 20, 20]  # whatever their size
    assert sampler.position == 1
    plain = seen_per_class(ShuffledSampler(len(labels), 38), labels, 20)[2]
    assert plain.tolist() == [500, 200, 50, 10]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda y: ClassBalancedSampler(y, 9, 2), "a batch of 9 classes needs 9 classes, there are 4"),
        (lambda y: ClassBalancedSampler(y, 4, 4, short="drop"), "there are 0 with 4 items or more"),
        (lambda y: ClassBalancedSampler(y, 3, 2, world=2), "cannot be shared among 2 ranks"),
        (lambda y: ClassBalancedSampler(y, 2, 2, rank=2, world=2), "rank=2 must be"),
        (lambda y: ClassBalancedSampler(y, 2, 2, short="skip"), "short .* must be 'repeat' or 'drop', not 'skip'"),
        (lambda y: ClassBalancedSampler(y, 0, 2), "classes .* must be a whole number from 1"),
        (lambda y: ClassBalancedSampler(y, 2, 2, seed=-1), "seed .* from 0 .*, not -1"),
        (lambda y: ShuffledSampler(len(y), 100), "lower batch"),
        (lambda y: ShuffledSampler(len(y), 2, keys="ab"), "2 keys for 12 rows"),
        (lambda y: ClassBalancedSampler(y, 2, 2, keys=range(13)), "13 keys for 12 rows"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(UserError, match=message):
        make(np.repeat(np.arange(4), 3))


def test_state_of_other_data_is_refused():
    sampler = ClassBalancedSampler(np.repeat(np.arange(4), 3), 2, 2, seed=1)
    for other in (
        ClassBalancedSampler(np.repeat(np.arange(4), 3), 2, 2, seed=2),
        ClassBalancedSampler(np.repeat(np.arange(5), 3), 2, 2, seed=1),
        ClassBalancedSampler(np.repeat(np.arange(4), 3), 2, 3, seed=1),
    ):
        with pytest.raises(UserError, match="state was saved with"):
            other.load_state_dict(sampler.state_dict())


def test_names_are_classes():
    numbers = np.repeat(np.arange(9), 5)
    names = np.array([f"class {i}" for i in range(9)])[numbers]
    for labels in (names, names.tolist(), torch.as_tensor(numbers), numbers.astype(np.int8)):
        ours, plain = (ClassBalancedSampler(x, 4, 3, seed=1, passes=3) for x in (labels, numbers.tolist()))
        assert list(ours) == list(plain)
    seen, sizes, drawn = seen_per_class(ClassBalancedSampler(names, 4, 3), names, 10)
    assert seen.tolist() == [f"class {i}" for i in range(9)]
    assert drawn.sum() == 120
    assert sizes.tolist() == [5] * 9
    for wrong in (numbers / 2, ["a", None], [["a", "b"]]):
        with pytest.raises(UserError, match="one integer or one name"):
            ClassBalancedSampler(wrong, 2, 2)
