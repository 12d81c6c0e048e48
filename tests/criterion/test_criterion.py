"""The criterion: identity, symmetry, sums, and errors that say the cure."""

import pytest
import torch

from pullpush.criterion import Criterion, Proxies, Regularizer, Sum
from pullpush.errors import UserError
from pullpush.maths import losses
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss
from pullpush.signatures import of
from tests.support.batches import ALL, CLASSES, DIM, assert_same, batch, criterion, value_and_gradient


def test_identity_is_by_ids_and_by_nothing_else():
    x, labels = batch(8)
    ours = Criterion("contrastive")
    ids = torch.arange(8)
    same = ours(x, labels, ids)
    assert_same([ours(x, labels)], [same])
    assert_same([ours(x, labels, ids, references=x.clone(), reference_labels=labels, reference_ids=ids)], [same])
    # Another modality: the cell beside the anchor is a pair like any other.
    assert not torch.equal(ours(x, labels, references=x, reference_labels=labels), same)
    twin = torch.where(ids == 5, 0, ids)  # two embeddings of one item, both of class 2, are no pair
    assert labels[0] == labels[5] == 2
    assert not torch.equal(ours(x, labels, twin), same)


def test_matched_pairs_of_two_towers_are_positives():
    x, labels = batch(8)[0], torch.arange(8)
    ours = Criterion("nt_xent")
    apart = ours(x, labels, references=-x, reference_labels=labels)
    together = ours(x, labels, references=x, reference_labels=labels)
    assert together < apart
    assert value_and_gradient(apart, x)[1].abs().sum() > 0


def test_symmetric_is_the_mean_of_both_directions():
    (x, labels), (y, y_labels) = batch(8), batch(6, 1)
    plain = Criterion("contrastive")
    forth = plain(x, labels, references=y, reference_labels=y_labels)
    back = plain(y, y_labels, references=x, reference_labels=labels)
    both = Criterion("contrastive", symmetric=True)(x, labels, references=y, reference_labels=y_labels)
    assert_same(value_and_gradient(both, x, y), value_and_gradient((forth + back) / 2, x, y))
    with pytest.raises(ValueError, match="give references"):
        Criterion("contrastive", symmetric=True)(x, labels)


@pytest.mark.parametrize("name", ALL)
def test_values_of_each_anchor(name):
    x, labels = batch(8)
    each = criterion(name, reduction="none")(x, labels)
    assert each.shape == (8,)
    assert each.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_state_dict_holds_all(name):
    x, labels = batch(8)
    first, second = criterion(name), criterion(name)
    with torch.no_grad():
        for p in first.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    second.load_state_dict(first.state_dict())
    assert_same([second(x, labels)], [first(x, labels)])


def test_sums_are_weighted():
    x, labels = batch(8)
    parts = [Criterion("contrastive"), Criterion("triplet"), Regularizer("embedding_norm")]
    expected = 0.5 * parts[0](x, labels) + 2 * parts[1](x, labels) + 0.1 * x.square().sum(1).mean()
    ours = Sum(parts, [0.5, 2, 0.1])
    assert_same(value_and_gradient(ours(x, labels), x), value_and_gradient(expected, x))
    with pytest.raises(UserError, match="one weight for each"):
        Sum(parts, [1.0])


def test_two_views_without_labels():
    (x, _), (y, _) = batch(8), batch(8, 1)
    own = torch.arange(8)
    loss = Regularizer("vicreg")(x, own, references=y, reference_labels=own)
    only = Regularizer("vicreg", variance_weight=0, covariance_weight=0)(x, own, references=y, reference_labels=own)
    assert_same([only], [25 * (x - y).square().mean()])
    assert loss > only


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Criterion("contrastiv"), "did you mean 'contrastive'"),
        (lambda: Criterion("contrastive", margn=1), "has no option 'margn'"),
        (lambda: Criterion(miner="hardst"), "did you mean 'hardest'"),
        (lambda: Criterion(miner={"name": "multi_similarity", "epsilo": 1}), "did you mean 'epsilon'"),
        (lambda: Criterion("proxy_nca"), "Proxies\\(classes, dim\\)"),
        (lambda: Criterion(reduction="sum"), "'mean' or 'none'"),
        (lambda: Criterion("nt_xent", learn="temprature"), "did you mean 'temperature'"),
        (lambda: Regularizer("embeding_norm"), "did you mean 'embedding_norm'"),
        (lambda: Criterion("circl"), "did you mean 'circle'"),
    ],
)
def test_errors_name_the_cure(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_shapes_that_do_not_fit():
    x, labels = batch(8)
    with pytest.raises(ValueError, match=r"\[8, 6\] and labels \[7\]"):
        Criterion()(x, labels[:7])
    with pytest.raises(ValueError, match="reference_labels"):
        Criterion()(x, labels, references=x)


def squares(rectangle, *, power: float = 2.0):
    """Sum of powers.

    Args:
        rectangle: [anchors, references].
        power: of the
            negatives.
    """
    total = (rectangle.similarity.abs() ** power * rectangle.pairs.negative).sum(1)
    return AnchorLoss(total, torch.ones_like(total))


def test_a_loss_is_known_once_it_is_in_the_registry(monkeypatch):
    monkeypatch.setitem(losses.REGISTRY, "squares", loss()(squares))
    assert of(losses.REGISTRY["squares"]).options["power"].help == "of the negatives."
    x, labels = batch(8)
    assert_same([Criterion("squares", power=1.0)(x, labels)], [Criterion(squares, power=1.0)(x, labels)])


def test_proxies_have_no_id_of_an_item():
    proxies = Proxies(CLASSES, DIM, per_class=2, seed=3)
    assert torch.equal(proxies.labels, torch.arange(CLASSES).repeat_interleave(2))
    assert len(set(proxies.ids.tolist())) == 2 * CLASSES
    torch.testing.assert_close(proxies.weight, Proxies(CLASSES, DIM, per_class=2, seed=3).weight)
    assert not torch.equal(proxies.weight, Proxies(CLASSES, DIM, per_class=2, seed=4).weight)
