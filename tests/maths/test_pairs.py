"""Masks and relations, against their definitions."""

import pytest
import torch

from pullpush.errors import UserError
from pullpush.maths.pairs import Pairs, make_pairs
from pullpush.maths.relations import REGISTRY, same_ancestor, same_class, same_text, shared_label

# Three levels: animal, mammal or bird, species. The numbers of a level start anew below each ancestor.
PATHS = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])


def loops(rule, labels, reference_labels):
    return torch.tensor([[rule(a, b) for b in reference_labels.tolist()] for a in labels.tolist()])


@pytest.mark.parametrize("level", [0, 1, 2, -1, -2, -3])
def test_same_ancestor(level):
    last = level % 3
    wanted = loops(lambda a, b: a[: last + 1] == b[: last + 1], PATHS, PATHS[1:])
    assert torch.equal(same_ancestor(level=level)(PATHS, PATHS[1:]), wanted)


def test_a_level_that_is_not_there():
    with pytest.raises(UserError, match="level=3"):
        same_ancestor(level=3)(PATHS, PATHS)


def test_a_finer_level_has_no_new_positives():
    masks = [same_ancestor(level=k)(PATHS, PATHS) for k in range(3)]
    assert not (masks[1] & ~masks[0]).any()
    assert not (masks[2] & ~masks[1]).any()


def test_shared_label():
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 0]])
    wanted = loops(lambda a, b: any(x and y for x, y in zip(a, b, strict=True)), labels, labels)
    assert torch.equal(shared_label()(labels, labels), wanted)


def test_same_class_keeps_large_labels_apart():
    """2^53 and 2^53 + 1 are one number in float64."""
    labels = torch.tensor([2**53, 2**53 + 1])
    assert torch.equal(same_class()(labels, labels), torch.eye(2, dtype=torch.bool))


@pytest.mark.parametrize(
    "relation",
    [*(relation() for relation in REGISTRY.values()), same_ancestor(level=1)],
    ids=[*REGISTRY, "same_ancestor, level 1"],
)
def test_pairs_leave_out_equal_ids_and_nothing_else(relation):
    paths = PATHS[:4, : 2 if relation.made_by(same_text) else 3]
    labels = torch.tensor([3, 3, 5, 3]) if relation.made_by(same_class) else paths
    ids = torch.tensor([10, 11, 12, 10])
    pairs = make_pairs(labels, ids, labels, ids, relation)
    same_id = loops(lambda a, b: a == b, ids, ids)
    assert torch.equal(pairs.positive | pairs.negative, ~same_id)
    found = relation(labels, labels)
    positive = found.positive if isinstance(found, Pairs) else found
    assert torch.equal(pairs.positive, positive & ~same_id)
    assert not (pairs.positive & pairs.negative).any()


@pytest.mark.parametrize("ids", [[4, 5, 6, 7], [-1, -2, -3, -4], [4, 5, 4, 7], [4, 4, 4, 4]])
@pytest.mark.parametrize("others", [[4, 5, 6, 7], [8, 9, 9, 8], [0, 1, 2, 3], [7, 8, 9, 10], [-4, -9, -9, -9]])
def test_ids_are_compared_one_by_one_whatever_their_ranges(ids, others):
    """A batch with itself and ranges that do not meet have a shorter way."""
    labels, ids, others = torch.tensor([1, 1, 2, 1]), torch.tensor(ids), torch.tensor(others)
    for reference_ids in (ids, others):
        for valid in (None, torch.tensor([True, True, False, True])):
            pairs = make_pairs(labels, ids, labels, reference_ids, valid=valid)
            same = loops(lambda a, b: a == b, labels, labels)
            kept = ~loops(lambda a, b: a == b, ids, reference_ids) & (torch.ones(4).bool() if valid is None else valid)
            assert torch.equal(pairs.positive, same & kept)
            assert torch.equal(pairs.negative, ~same & kept)


def test_masks_of_a_relation_are_its_own():
    """They are not written to: it may keep them."""
    held = Pairs(torch.ones(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool))
    labels = ids = torch.arange(3)
    assert make_pairs(labels, ids, labels, ids, lambda a, b: held).positive.sum() == 6
    assert held.positive.all()


def test_columns_that_hold_nothing_are_in_no_pair():
    labels, ids = torch.tensor([1, 1, 2]), torch.arange(3)
    pairs = make_pairs(labels, ids, labels, ids + 10, valid=torch.tensor([True, False, True]))
    assert pairs.positive.tolist() == [[True, False, False], [True, False, False], [False, False, True]]
    assert pairs.negative.tolist() == [[False, False, True], [False, False, True], [True, False, False]]
