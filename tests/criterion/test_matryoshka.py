"""Matryoshka: the loss of prefixes is that of embeddings cut short, whatever the loss, the columns and the way."""

import pytest
import torch
from torch import nn

from pullpush.criterion import Criterion, Proxies, cached_step, chunked
from pullpush.errors import UserError
from tests.support.batches import (
    ALL,
    BESIDE,
    CLASSES,
    DIM,
    OF_ROWS,
    TRAITS,
    assert_same,
    batch,
    criterion,
    exact_memory,
    value_and_gradient,
)

WEIGHTS = {4: 0.5, 2: 3.0}


def cut(x, dim):
    """The definition, row by row."""
    return torch.stack([row[:dim] * (row.norm() / row[:dim].norm()) for row in x])


def by_hand(x, loss):
    """`loss` is called with the dimension and with embeddings of it."""
    return loss(DIM, x) + sum(weight * loss(dim, cut(x, dim)) for dim, weight in WEIGHTS.items())


@pytest.mark.parametrize("name", ALL)
def test_of_every_loss_it_is_the_sum_over_embeddings_cut_short(name):
    x, labels = batch(10)
    ids = torch.arange(10)
    ours = criterion(name, matryoshka=WEIGHTS)
    proxies = ours.proxies

    def alone(dim, short):
        if proxies is None:
            return criterion(name)(short, labels, ids)
        own = Proxies(CLASSES, dim, per_class=proxies.per_class)
        del own.weight
        own.weight = proxies.weight if dim == DIM else cut(proxies.weight, dim)
        return Criterion(name, proxies=own).double()(short, labels, ids)

    inputs = [x] if proxies is None else [x, proxies.weight]
    expected = value_and_gradient(by_hand(x, alone), *inputs)
    assert_same(value_and_gradient(ours(x, labels, ids), *inputs), expected, 1e-9)
    assert not torch.equal(ours(x, labels, ids), criterion(name)(x, labels, ids))


@pytest.mark.parametrize("name", BESIDE)
def test_a_memory_is_extra_columns_in_each_prefix(name):
    x, labels = batch(9)
    y, y_labels = batch(10, seed=7)
    y, ids, y_ids = y.detach(), torch.arange(9), 100 + torch.arange(10)
    remembered = exact_memory(10, DIM, storage="float64")
    ours = criterion(name, memory=remembered, matryoshka=WEIGHTS)
    remembered.enqueue(y, y_labels, y_ids)
    found = value_and_gradient(ours(x, labels, ids), x)

    def joined(dim, short):
        columns = y if dim == DIM else cut(y, dim)
        return criterion(name)(
            short,
            labels,
            ids,
            references=torch.cat([short, columns]),
            reference_labels=torch.cat([labels, y_labels]),
            reference_ids=torch.cat([ids, y_ids]),
        )

    assert_same(found, value_and_gradient(by_hand(x, joined), x), 1e-9)
    assert remembered.embeddings.shape == (10, DIM)  # no second memory


@pytest.mark.parametrize("name", [n for n in OF_ROWS if not TRAITS[n].learned][::3])
@pytest.mark.parametrize("with_memory", [False, True])
def test_blocks_of_rows_give_the_same(name, with_memory):
    x, labels = batch(9)
    y, y_labels = batch(10, seed=7)
    found = []
    for rows in (None, 2):
        remembered = exact_memory(10, DIM, storage="float64") if with_memory else None
        if remembered is not None:
            remembered.enqueue(y.detach(), y_labels, 100 + torch.arange(10))
        ours = criterion(name, memory=remembered, matryoshka=WEIGHTS, block_rows=rows)
        found.append(value_and_gradient(ours(x, labels, torch.arange(9)), x))
    assert_same(*found)


def test_of_two_towers_both_sides_are_cut_and_values_of_each_anchor_add_up():
    x, labels = batch(8)
    y, y_labels = batch(8, seed=3)
    sides = {"references": y, "reference_labels": y_labels}
    ours = Criterion("n_pair", symmetric=True, matryoshka=WEIGHTS)(x, labels, **sides)

    def both(dim):
        a, b = (x, y) if dim == DIM else (cut(x, dim), cut(y, dim))
        plain = Criterion("n_pair", symmetric=True)
        return plain(a, labels, references=b, reference_labels=y_labels)

    expected = both(DIM) + 0.5 * both(4) + 3 * both(2)
    assert_same(value_and_gradient(ours, x, y), value_and_gradient(expected, x, y))
    each = Criterion("circle", matryoshka=WEIGHTS, reduction="none")(x, labels)
    parts = [Criterion("circle", reduction="none")(short, labels) for short in (x, cut(x, 4), cut(x, 2))]
    assert_same([each], [parts[0] + 0.5 * parts[1] + 3 * parts[2]])


def test_chunks_of_the_gradient_cache_give_the_same_gradients():
    inputs, labels = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), torch.arange(12) // 3
    encoder = nn.Linear(5, DIM)
    ours = Criterion("multi_similarity", matryoshka=(4, 2))
    ours(encoder(inputs), labels).backward()
    whole, encoder.weight.grad = encoder.weight.grad, None
    cached_step([encoder], [chunked(inputs, 5)], lambda x: ours(x, labels))
    torch.testing.assert_close(encoder.weight.grad, whole)


def test_a_prefix_of_zeros_has_a_finite_gradient():
    x, labels = batch(8)
    with torch.no_grad():
        x[0, :4] = 0
    for name in ("circle", "triplet"):
        loss = Criterion(name, matryoshka=WEIGHTS)(x, labels)
        assert torch.isfinite(torch.cat([each.flatten() for each in value_and_gradient(loss, x)])).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0,), "matryoshka must be a list, each a whole number from 1"),
        ((4, 4), "give each dimension of a prefix once"),
        ({4: 0.0}, "weight of the prefix of 4 dimensions must be a number above 0"),
        ("wide", "matryoshka must be a list"),
    ],
)
def test_what_is_no_prefix_is_named(given, message):
    with pytest.raises(UserError, match=message):
        Criterion("circle", matryoshka=given)


def test_a_prefix_as_long_as_the_embeddings_is_named():
    x, labels = batch(8)
    with pytest.raises(UserError, match=rf"embeddings have {DIM} dimensions: give fewer"):
        Criterion("circle", matryoshka=(DIM, 2))(x, labels)
