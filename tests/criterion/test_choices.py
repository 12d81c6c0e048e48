"""Miners, relations and proxies as the criterion calls them: what it gives them, and when the whole batch is needed."""

from functools import partial

import pytest
import torch

from pullpush.criterion import Criterion, Proxies, Regularizer
from pullpush.errors import UserError
from pullpush.maths import miners
from pullpush.maths.losses import REGISTRY
from pullpush.maths.pairs import make_pairs
from pullpush.maths.rectangle import Rectangle, value
from pullpush.maths.relations import same_ancestor, shared_label
from pullpush.maths.similarity import SIMILARITIES, normalize
from tests.support.batches import CLASSES, DIM, assert_same, batch, criterion, exact_memory, value_and_gradient

# Options with which the batches below lose some of their pairs, but not all.
OPTIONS = {"uniform_bins": {"bins": 4, "positives_per_bin": 2, "negatives_per_bin": 3}}
MINERS = [{"name": name, **OPTIONS.get(name, {})} for name in miners.REGISTRY]
PATHS = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 0], [1, 2, 3], [0, 1, 2], [0, 0, 1]])

each_miner = pytest.mark.parametrize("miner", MINERS, ids=[m["name"] for m in MINERS])


@each_miner
@pytest.mark.parametrize("measure", ["cosine", "negative_euclidean"])
def test_miners_are_given_what_they_ask_for(miner, measure):
    x, labels = batch(12)
    unit = normalize(x).detach().requires_grad_()
    if miner["name"] == "pair_margin" and measure != "cosine":
        miner = {"name": "pair_margin", "positive_below": -0.6, "negative_above": -1.4}
    ids = torch.arange(12)
    found = Criterion("contrastive", similarity=measure, positive_margin=2, negative_margin=-4, miner=miner)(
        unit, labels, ids
    )
    name, options = miner["name"], {k: v for k, v in miner.items() if k != "name"}
    s = SIMILARITIES[measure](unit, unit)
    rectangle = Rectangle(s, make_pairs(labels, ids, labels, ids), s, measure, DIM)
    kept = miners.REGISTRY[name](**options)(rectangle)
    assert 0 < kept.negative.sum() < rectangle.pairs.negative.sum()
    loss = REGISTRY["contrastive"](positive_margin=2, negative_margin=-4)
    assert_same([found], [value(loss(rectangle._replace(pairs=kept)))])


@each_miner
def test_blocks_of_rows_are_the_whole_with_every_miner(miner):
    x, labels = batch(13)
    found = [
        value_and_gradient(Criterion("multi_similarity", miner=miner, block_rows=rows)(x, labels), x)
        for rows in (None, 4)
    ]
    assert_same(*found)


@pytest.mark.parametrize("name", ["hard_percent", "uniform_bins"])
def test_a_miner_of_the_whole_batch_stays_so_as_a_function_with_options(name):
    """How many are kept of a batch differs from how many are kept of its blocks."""
    x, labels = batch(13)
    for per, whole in (("batch", True), ("anchor", False)):
        for miner in ({"name": name, "per": per}, partial(miners.REGISTRY[name], per=per)):
            assert Criterion(miner=miner).whole is whole
    several = partial(miners.REGISTRY[name], **({"fraction": 0.2} if name == "hard_percent" else OPTIONS[name]))
    found = [Criterion(miner=several, block_rows=rows)(x, labels) for rows in (None, 4)]
    assert_same(found[:1], found[1:])


@each_miner
def test_compiler_takes_every_miner(miner):
    x, labels = batch(12)
    torch._dynamo.reset()
    expected = Criterion(miner=miner)(x, labels)
    ours = Criterion(miner=miner)
    ours.execution.compiled = torch.compile(ours.comparison.sums, backend="eager", fullgraph=True)
    assert_same([ours(x, labels)], [expected])


def test_what_the_criterion_gives_is_no_option():
    for choice in [*REGISTRY.values(), *miners.REGISTRY.values()]:
        assert not {"reference_similarity", "similarity_name", "dim"} & set(choice().options)
    with pytest.raises(UserError, match="no option 'dim': it has: closest, farthest, seed"):
        Criterion(miner={"name": "distance_weighted", "dim": 64})
    with pytest.raises(UserError, match="no option 'reference_similarity'"):
        Criterion("angular", reference_similarity=None)
    with pytest.raises(UserError, match="a name"):
        Criterion(miner={"epsilon": 0.1})


def test_a_relation_with_options():
    x, ids = batch(8)[0], torch.arange(8)
    for level in (0, 1, 2):
        plain = PATHS[:, : level + 1].unique(dim=0, return_inverse=True)[1]
        expected = value_and_gradient(Criterion()(x, plain, ids), x)
        for relation in ({"name": "same_ancestor", "level": level}, partial(same_ancestor, level=level)):
            assert_same(value_and_gradient(Criterion(relation=relation)(x, PATHS, ids), x), expected)
            assert_same(value_and_gradient(Criterion(relation=relation, block_rows=3)(x, PATHS, ids), x), expected)
        ours = Criterion(relation={"name": "same_ancestor", "level": level}, compile=level == 1)
        assert_same(value_and_gradient(ours(x, PATHS, ids), x), expected)
    y = x.detach().flip(0)
    regular = Regularizer("vicreg", relation={"name": "same_ancestor", "level": 2})
    assert_same(
        [regular(x, PATHS, references=y, reference_labels=PATHS)],
        [Regularizer("vicreg")(x, plain, references=y, reference_labels=plain)],
    )


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        ("same_ancester", "did you mean 'same_ancestor'"),
        ({"name": "same_ancestor", "levl": 1}, "did you mean 'level'"),
        ({"name": "same_class", "level": 1}, "has no option 'level'"),
        ({"level": 1}, "relation .* needs a name"),
    ],
)
def test_relations_that_are_not_there(relation, message):
    with pytest.raises(UserError, match=message):
        Criterion(relation=relation)


def test_labels_that_the_relation_does_not_take():
    x = batch(8)[0]
    with pytest.raises(UserError, match="shared_label"):
        Criterion()(x, PATHS)
    memory = exact_memory(20, DIM, storage="float64")
    with pytest.raises(UserError, match=r"label_shape=\(3,\)"):
        Criterion(relation="same_ancestor", memory=memory)(x, PATHS)


def multi_hot(n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(n, CLASSES, generator=g) < 0.35).long()


def test_label_sets_against_a_memory():
    memory = exact_memory(20, DIM, storage="float64", label_shape=(CLASSES,))
    ours = Criterion(relation="shared_label", memory=memory, miner="multi_similarity")
    first, second, labels = batch(8, 1)[0], batch(8)[0], [multi_hot(8, seed) for seed in (0, 1)]
    ours(first, labels[0])
    found = value_and_gradient(ours(second, labels[1]), second)
    assert torch.equal(memory.labels[:16], torch.cat(labels))
    plain = Criterion(relation="shared_label", miner="multi_similarity")
    both, ids = torch.cat([second, first.detach()]), torch.arange(16)
    expected = plain(
        second, labels[1], ids[:8], references=both, reference_labels=torch.cat(labels[::-1]), reference_ids=ids
    )
    assert_same(found, value_and_gradient(expected, second))


def test_label_sets_against_proxies_of_single_classes():
    x, labels = batch(8)[0], multi_hot(8, 2)
    proxies = Proxies(CLASSES, DIM).double()
    found = Criterion("nca", relation="shared_label", proxies=proxies)(x, labels)
    every = torch.eye(CLASSES, dtype=torch.int64)
    assert torch.equal(shared_label()(labels, proxies.labels), shared_label()(labels, every))
    expected = Criterion("nca", relation="shared_label")(x, labels, references=proxies.weight, reference_labels=every)
    assert_same([found], [expected])


@pytest.mark.parametrize("name", ["soft_triple", "sub_center_arcface"])
def test_proxies_a_class_are_said_once(name):
    x, labels = batch(8)
    proxies = Proxies(CLASSES, DIM, per_class=4).double()
    once = Criterion(name, proxies=proxies)
    assert_same([once(x, labels)], [Criterion(name, proxies=proxies, centers=4)(x, labels)])
    assert once.loss.options["centers"] == 4
    with pytest.raises(UserError, match=r"centers=3.*per_class=4"):
        Criterion(name, proxies=proxies, centers=3)


def test_values_of_each_anchor_with_a_miner():
    x, labels = batch(12)
    each = criterion("triplet", miner="hard_percent", reduction="none")(x, labels)
    assert each.shape == (12,)


def test_a_miner_of_references_gets_all_of_them_beside_a_loss_of_each_class_alone():
    """soft_triple compares the proxies of each class, the angular miner all with all."""
    x, labels = torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) // 3
    proxies = Proxies(4, 8, per_class=2)
    mined = Criterion("soft_triple", proxies=proxies, miner="angular")(x, labels)
    # The same numbers by a function that is not known to be the dot product: then the loss gets all with all, too.
    other = Criterion("soft_triple", proxies=proxies, miner="angular", similarity=lambda a, b: a @ b.mT)
    other.comparison.similarity_name = "cosine"
    torch.testing.assert_close(mined, other(x, labels))
