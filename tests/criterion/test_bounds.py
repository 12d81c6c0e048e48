"""Bounds of options: every option that there is, found from the code, is given what nobody should give."""

import math
import pickle

import pytest
import torch

from pullpush.bounds import describe
from pullpush.criterion import Criterion, CrossBatchMemory, Proxies, Regularizer
from pullpush.errors import UserError
from pullpush.maths import losses, miners, regularizers
from pullpush.signatures import of, room, summary
from tests.support.batches import CLASSES, DIM, batch

ODD = [-1, 0, 1e18, -1e18, math.nan, math.inf, "many", [1, "a"], {"a": 1}, 10**400]
KINDS = {"loss": losses.REGISTRY, "miner": miners.REGISTRY, "regularizer": regularizers.REGISTRY}
OPTIONS = [
    (kind, name, option) for kind, known in KINDS.items() for name in known for option in of(known[name]).options
]
NAMES = ["-".join(each) for each in OPTIONS]


def refusal(make):
    """What is said against it, or nothing."""
    try:
        make()
    except UserError as error:
        return str(error)
    return ""


def finite(kind, name, options):
    """Whether value and gradient are numbers with these options."""
    x, labels = batch(8)
    x = x.detach().float().requires_grad_()
    if kind == "regularizer":
        loss = Regularizer(name, **options)(x, labels, references=x, reference_labels=labels)
    elif kind == "miner":
        loss = Criterion("contrastive", miner={"name": name, **options})(x, labels)
    else:
        proxies = None
        chosen = losses.REGISTRY[name]()
        if chosen.traits.proxies:
            given = options.get("centers")
            number = given if given in range(1, 100) else chosen.options.get("centers", 1)
            proxies = Proxies(CLASSES, DIM, per_class=number)
        loss = Criterion(name, proxies=proxies, **options)(x, labels)
    gradient = torch.autograd.grad(loss, x, allow_unused=True)[0]
    return bool(loss.isfinite()) and (gradient is None or bool(gradient.isfinite().all()))


@pytest.mark.parametrize(("kind", "name", "option"), OPTIONS, ids=NAMES)
def test_every_option_takes_what_makes_sense_and_refuses_the_rest(kind, name, option):
    results = []
    said = [refusal(lambda value=value: results.append(finite(kind, name, {option: value}))) for value in ODD]
    assert all(results)
    assert all(not each or each.startswith(f"{option} of {kind} {name!r} must be ") for each in said)
    assert sum(map(bool, said)) >= 7, "NaN, infinity, texts and lists are no values of any of them"


def edges(annotation):
    """The smallest and largest values that bounds name."""
    for each in getattr(annotation, "__metadata__", ()):
        if annotation.__origin__ in (int, float):
            yield from (each.low + 1e-6 * each.above, each.high - 1e-6 * each.below)


@pytest.mark.parametrize(("kind", "name", "option"), OPTIONS, ids=NAMES)
def test_values_at_the_bounds_give_numbers(kind, name, option):
    annotation = of(KINDS[kind][name]).options[option].annotation
    for value in edges(annotation):
        if not (option == "centers" and value > 100):  # as many proxies
            assert finite(kind, name, {option: value}), value


@pytest.mark.parametrize("value", ODD)
def test_relations_memory_and_proxies(value):
    made = {
        "relation": lambda: Criterion(relation={"name": "same_ancestor", "level": value}),
        "duplicates": lambda: Criterion(relation={"name": "same_text", "duplicates": value}),
        **{
            f"memory {option}": lambda option=option: CrossBatchMemory(**{"size": 4, "dim": DIM, option: value})
            for option in of(CrossBatchMemory).options
            if option not in ("items", "label_shape")
        },
        **{
            f"proxies {option}": lambda option=option: Proxies(**{"classes": 4, "dim": DIM, option: value})
            for option in of(Proxies).options
        },
    }
    allowed = {
        0: {"relation", "memory weight", "memory tolerance", "memory start_step", "proxies seed"},
        -1: {"relation"},
    }
    said = {name: refusal(make) for name, make in made.items()}
    assert all("must be" in each for each in said.values() if each)
    taken = {name for name, each in said.items() if not each}
    assert taken == (allowed.get(value, set()) if isinstance(value, int) else set())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Criterion("arcface", margin=28.6, proxies=Proxies(4, 8)),
            r"0 to 3\.142, in radians.*28\.6 degrees is 0\.5",
        ),
        (lambda: Criterion("angular", degrees=0.7), None),
        (lambda: Criterion("nt_xent", temperature=0), "temperature of loss 'nt_xent' must be a number from 1e-06"),
        (lambda: Criterion("ranked_list", balance=-1), "balance.* from 0 to 1, not -1"),
        (lambda: Criterion("triplet", kind="semi-hard"), "did you mean 'semihard'"),
        (lambda: Criterion("sup_con", temperature=True), "not True"),
        (lambda: Criterion("recall_at_k", ks=()), "from 1 to 100 of them"),
        (lambda: Criterion(miner={"name": "easy_hard", "negative": "semi-hard"}), "did you mean 'semihard'"),
        (lambda: Criterion(relation={"name": "same_text", "duplicates": "masked"}), "did you mean 'mask'"),
        (lambda: Criterion(block_rows=0), "block_rows of Criterion must be 'auto' or a whole number"),
        (lambda: Criterion(compile="yes please"), "compile of Criterion must be true or false"),
        (lambda: Criterion("triplet", learn="kind"), "learn='kind': .*above 0"),
        (lambda: Criterion("nt_xent", learn="temperature", temperature=0), "temperature of loss 'nt_xent' must be"),
        (lambda: CrossBatchMemory(4, 8, layout="qeue"), "did you mean 'queue'"),
    ],
)
def test_messages_name_option_bounds_unit_and_what_may_have_been_meant(make, message):
    if message is None:
        make()
        return
    with pytest.raises(UserError, match=message):
        make()


def test_numbers_of_numpy_and_whole_floats_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert Criterion("triplet", margin=numpy.float32(0.5)).loss.given == {"margin": 0.5}
    assert Criterion("histogram", bins=numpy.int64(7)).loss.options == {"bins": 7}
    assert type(Criterion("histogram", bins=7.0).loss.options["bins"]) is int
    assert CrossBatchMemory(1, DIM).size == 1
    assert CrossBatchMemory(1.0, DIM, items=9).size == 9
    assert pickle.loads(pickle.dumps(CrossBatchMemory(3, DIM))).size == 3


def test_signatures_read_from_the_source_are_those_of_the_functions():
    """Help and the parser never import torch: what they read must be what is called."""
    for package in (losses, miners, regularizers):
        found = room(package.__name__)
        assert list(found) == list(package.REGISTRY)
        for name, choice in package.REGISTRY.items():
            called = of(choice)
            read = {k: o for k, o in found[name].options.items() if o.by_name}
            assert list(read) == list(called.options), name
            assert summary(found[name].doc) == summary(called.doc)
            assert summary(called.doc).endswith("."), name
            for option, about in called.options.items():
                assert read[option].default == about.default == choice().options[option]
                assert read[option].help == about.help
                assert about.help, f"{name} {option}"
                assert describe(read[option].annotation) == describe(about.annotation)
