"""What a criterion is called with: any length, names, lists, all integers; the rest is refused with the cure."""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from pullpush.criterion import Criterion, CrossBatchMemory, Proxies, Regularizer, Sum
from pullpush.criterion.given import Side, class_number
from pullpush.errors import UserError
from pullpush.maths import losses, miners
from pullpush.maths.similarity import normalize
from tests.support.batches import ALL, CLASSES, DIM, assert_same, batch, criterion, exact_memory, value_and_gradient

NAMES = ["robin", "wren", "heron", "NA"]


def proxied(**options):
    return Criterion("normalized_softmax", proxies=Proxies(CLASSES, DIM).double(), **options)


def remembering(**options):
    return Criterion("contrastive", memory=exact_memory(20, DIM, storage="float64", **options))


X, LABELS = batch(8)
FEW = X[:3, :2]
SETS = torch.eye(CLASSES, dtype=torch.int64)[LABELS]
# What is done, and what the message says: the input and the cure.
WRONG = {
    "label beyond the proxies": (
        lambda: proxied()(X, LABELS + 2),
        r"label [45] has no proxy: labels must be 0 \.\.\. 3",
    ),
    "label below the proxies": (lambda: proxied(block_rows=2)(X, LABELS - 1), "label -1 has no proxy"),
    "names with proxies": (lambda: proxied()(X, [NAMES[i] for i in LABELS]), "these labels are names: number them"),
    "dim of the proxies": (lambda: proxied()(X[:, :3], LABELS), r"do not fit proxies with dim=6.*dim=3"),
    "sets of other proxies": (lambda: proxied(relation="shared_label")(X, SETS[:, :2]), r"give \[n, 4\]"),
    "paths with proxies": (lambda: proxied(relation="same_ancestor"), "single classes: take relation"),
    "float labels": (lambda: Criterion()(X, LABELS.float()), r"labels are torch.float32.*labels\.long\(\)"),
    "float sets in a memory": (
        lambda: Criterion(relation="shared_label", memory=CrossBatchMemory(9, DIM, label_shape=(CLASSES,)))(
            X.float(), SETS.float()
        ),
        r"labels are torch.float32, a memory keeps int64",
    ),
    "float labels in a memory": (lambda: remembering()(X, LABELS.double()), r"labels\.long\(\)"),
    "dim of the memory": (lambda: remembering()(X[:, :3], LABELS), r"memory with dim=6: give .*dim=3"),
    "dim written": (lambda: CrossBatchMemory(9, 3).enqueue(X, LABELS, LABELS), r"dim=3: give .*dim=6"),
    "dim of the references": (
        lambda: Criterion()(X, LABELS, references=FEW, reference_labels=LABELS[:3]),
        "have different dimensions",
    ),
    "references without labels": (lambda: Criterion()(X, LABELS, references=X), "reference_labels"),
    "labels without references": (lambda: Criterion()(X, LABELS, reference_labels=LABELS), "give references="),
    "ids without references": (lambda: Regularizer("vicreg")(X, LABELS, reference_ids=LABELS), "give references="),
    "symmetric alone": (lambda: Criterion("nt_xent", symmetric=True)(X, LABELS), "give references"),
    "a miner's pairs": (lambda: Criterion()(X, LABELS, (LABELS,) * 4), r"tuple of 4 tensors.*miner="),
    "a miner's triplets": (lambda: Sum([Criterion()])(X, LABELS, (LABELS,) * 3), r"tuple of 3 tensors.*miner="),
    "too few labels": (lambda: Criterion()(X, LABELS[:7]), r"\[8, 6\] and labels \[7\]"),
    "one label": (lambda: Criterion()(X, 3), r"one label each"),
    "labels of no kind": (lambda: Criterion()(X, [None] * 8), "give integers or strings"),
    "names among numbers": (lambda: Criterion()(X, [*"abcdefg", 7]), "give integers or strings"),
    "sets of names": (lambda: Criterion()(X, [["a"], ["a", "b"]] * 4), "give integers or strings"),
    "images for embeddings": (lambda: Criterion()(X[:, None], LABELS), r"must be \[n, dim\]"),
    "one embedding": (lambda: Criterion()(X[0], LABELS[0]), r"must be \[n, dim\]"),
    "integers for embeddings": (lambda: Criterion()(X.long(), LABELS), "embeddings are torch.int64"),
    "lists for embeddings": (lambda: Criterion()(X.tolist(), LABELS), "embeddings are list"),
    "arrays for references": (
        lambda: Criterion()(X, LABELS, references=X.detach().numpy(), reference_labels=LABELS),
        "references are ndarray",
    ),
    "ids of another length": (
        lambda: Criterion()(X, LABELS, torch.arange(7)),
        r"ids are torch.int64 \[7\]: give int64 \[8\]",
    ),
    "float ids": (lambda: Criterion()(X, LABELS, torch.rand(8)), r"ids are torch.float32"),
    "labels elsewhere": (lambda: Criterion()(X, LABELS.to("meta")), r"labels are on meta.*labels\.to\('cpu'\)"),
    "ids elsewhere": (lambda: Criterion()(X, LABELS, LABELS.to("meta")), r"ids\.to\('cpu'\)"),
    "references elsewhere": (
        lambda: Criterion()(X, LABELS, references=X.to("meta"), reference_labels=LABELS),
        r"references\.to\('cpu'\)",
    ),
    "memory elsewhere": (lambda: remembering().to("meta")(X, LABELS), r"memory is on meta.*\.to\('cpu'\)"),
    "proxies elsewhere": (lambda: proxied().to("meta")(X, LABELS), r"proxies are on meta.*\.to\('cpu'\)"),
    "no sets": (lambda: Criterion(relation="shared_label")(X, LABELS), "multi-hot"),
    "no paths": (lambda: Criterion(relation="same_ancestor")(X, LABELS), "paths"),
    "short paths": (lambda: Criterion(relation={"name": "same_ancestor", "level": 9})(X, SETS), "level=9"),
    "no texts": (lambda: Criterion(relation="same_text")(X, LABELS), r"\[n, 2\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_with_the_cure(case):
    wrong, said = WRONG[case]
    with pytest.raises(UserError, match=re.compile(said, re.DOTALL)) as caught:
        wrong()
    assert isinstance(caught.value, ValueError)


def test_a_cuda_device_is_not_asked_for_the_range_of_labels(monkeypatch):
    """As far as that can be seen without one: the check is the device's assertion, with the cure for a message."""
    asked = []
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    monkeypatch.setattr(torch, "_assert_async", lambda right, cure: asked.append((bool(right), cure)))
    for labels in (LABELS, LABELS + 2):
        Proxies(CLASSES, DIM).double().fits("embeddings", Side(X, labels, None, False), Criterion().relation)
    assert [right for right, _ in asked] == [True, False]
    assert "labels must be 0 ... 3" in asked[0][1]
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="number these from 0"):
        torch._assert_async(torch.tensor(False), asked[0][1])


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.int16])
def test_integers_of_every_size_are_labels_and_ids(kind):
    ids = torch.arange(8)
    for make in (Criterion, remembering, proxied):
        expected, found = make(), make()
        if expected.proxies is not None:
            found.load_state_dict(expected.state_dict())
        for _ in range(2):
            assert_same([found(X, LABELS.to(kind), ids.to(kind))], [expected(X, LABELS, ids)])


def test_names_and_lists_are_labels_and_ids():
    named = [NAMES[i] for i in LABELS]
    paths = [f"{i}.png" for i in range(8)]
    for given in (
        named,
        tuple(named),
        np.array(named),
        pd.Series(named, index=range(5, 13)),
        np.array(named, dtype=object),
    ):
        assert_same([Criterion()(X, given)], [Criterion()(X, LABELS)])
    for given in (LABELS.tolist(), LABELS.numpy(), pd.Series(LABELS.numpy(), index=range(8, 0, -1))):
        assert_same([proxied()(X, given)], [proxied()(X, LABELS)])
    twins = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    assert_same([Criterion()(X, named, [paths[i] for i in twins])], [Criterion()(X, LABELS, twins)])
    hierarchy = [["bird", name] for name in named]
    levels = torch.stack([torch.zeros_like(LABELS), LABELS], 1)
    ours = Criterion(relation={"name": "same_ancestor", "level": 1})
    assert_same([ours(X, hierarchy)], [ours(X, levels)])
    assert_same(
        [Regularizer("vicreg")(X, named, references=X, reference_labels=named)],
        [Regularizer("vicreg")(X, LABELS, references=X, reference_labels=LABELS)],
    )


def test_a_name_is_the_same_class_in_every_batch_and_in_the_memory():
    numbered, named = remembering(), remembering()
    for step in range(3):
        x, labels = batch(8, step)
        order = torch.randperm(8, generator=torch.Generator().manual_seed(step))
        x, labels = x.detach()[order], labels[order]
        assert_same([named(x, [NAMES[i] for i in labels])], [numbered(x, labels)])


def test_a_name_has_one_number_in_every_process():
    code = "from pullpush.criterion.given import class_number as n; print(n('robin'), n('\\udcff'))"
    for seed in ("0", "1"):  # of Python's own hash, which differs from process to process
        said = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert said.split() == [str(class_number("robin")), str(class_number("\udcff"))]
    numbers = {class_number(str(i)) for i in range(20_000)}
    assert len(numbers) == 20_000
    assert 0 <= min(numbers) < 1 << 60 < max(numbers) < 1 << 63
    assert class_number("robin") == 8979246456711488687


def test_references_and_proxies_of_another_width_of_number_are_taken():
    ours, single = Criterion("nt_xent"), X.detach().float()
    both = [ours(X, LABELS, references=y, reference_labels=LABELS) for y in (single, single.double())]
    assert_same(both[:1], both[1:], 1e-6)
    assert Criterion("normalized_softmax", proxies=Proxies(CLASSES, DIM))(X, LABELS).dtype == torch.float64


OF_UNIT_VECTORS = [n for n in ALL if losses.REGISTRY[n]().traits.unit_length]


def test_who_wants_unit_vectors():
    assert {"fast_ap", "margin", "ranked_list", "histogram", "arcface"} <= set(OF_UNIT_VECTORS)
    assert not {"triplet", "contrastive", "n_pair", "nca"} & set(OF_UNIT_VECTORS)


@pytest.mark.parametrize("similarity", [None, "dot", "negative_squared_euclidean"])
@pytest.mark.parametrize("name", OF_UNIT_VECTORS)
def test_losses_of_unit_vectors_do_not_look_at_the_length(name, similarity):
    x, labels = batch(12)
    lengths = torch.logspace(-3, 3, 12, dtype=x.dtype)[:, None]
    unit = normalize(x).detach()
    ours = criterion(name, similarity=similarity)
    value, gradient = value_and_gradient(ours(x, labels), x)
    assert_same([ours((unit * lengths), labels), ours(unit, labels)], [value, value])
    assert gradient.abs().sum() > 0 or similarity is not None
    assert (gradient * x).sum(1).abs().max() < 1e-9  # along the sphere
    if not ours.loss.traits.proxies:
        memory = exact_memory(20, DIM, storage="float64")
        remembering = criterion(name, similarity=similarity, memory=memory)
        remembering(*batch(9, 3))
        torch.testing.assert_close(memory.embeddings[:9].norm(dim=1), torch.ones(9, dtype=x.dtype))


@pytest.mark.parametrize("similarity", ["cosine", "dot", "negative_euclidean", "negative_squared_euclidean"])
@pytest.mark.parametrize("miner", [m for m in miners.REGISTRY if miners.REGISTRY[m]().traits.unit_length])
def test_miners_of_unit_vectors_find_pairs_at_any_length(miner, similarity):
    x, labels = batch(12)
    for scale in (0.01, 1.0, 100.0):
        ours = Criterion("triplet", similarity=similarity, miner=miner, margin=10.0)
        found = value_and_gradient(ours(x * scale, labels), x)
        if scale == 0.01:
            expected = found
            assert found[0] > 0
        assert_same(found[:1], expected[:1])
