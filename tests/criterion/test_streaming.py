"""Blocks of rows, and compilation: the same numbers as the whole."""

import copy
import logging

import pytest
import torch

from pullpush.criterion import Criterion
from pullpush.criterion import execution as module
from tests.support.batches import ALL, CLASSES, DIM, assert_same, batch, criterion, exact_memory, value_and_gradient


def inputs_of(ours: Criterion, *embeddings: torch.Tensor) -> list[torch.Tensor]:
    return [*embeddings, *ours.parameters()]


@pytest.mark.parametrize("name", ALL)
def test_blocks_of_rows_are_the_whole(name):
    x, labels = batch(13)
    whole = criterion(name, block_rows=None)
    blocks = copy.deepcopy(whole)
    blocks.execution.block_rows = 4
    found = [value_and_gradient(c(x, labels), *inputs_of(c, x)) for c in (whole, blocks)]
    assert_same(*found)
    if not whole.loss.traits.proxies:
        y, y_labels = batch(9, 1)
        found = [
            value_and_gradient(c(x, labels, references=y, reference_labels=y_labels), *inputs_of(c, x, y))
            for c in (whole, blocks)
        ]
        assert_same(*found)


@pytest.mark.parametrize("name", ["contrastive", "multi_similarity", "siglip", "margin"])
def test_blocks_of_rows_against_a_memory_with_a_miner(name):
    found = []
    for block_rows in (None, 5):
        memory = exact_memory(30, DIM, storage="float64")
        ours = criterion(name, memory=memory, miner="multi_similarity", block_rows=block_rows)
        ours(*batch(20, 1))
        x, labels = batch(12)
        found.append(value_and_gradient(ours(x, labels), *inputs_of(ours, x)))
    assert_same(*found)


def test_compiled_labels_and_ids_may_be_larger_than_32_bits():
    """Names are numbers of 63 bits; smaller ones are compared in 32."""
    x, labels = batch(16)
    ids = torch.arange(16) // 2
    expected = value_and_gradient(Criterion("sup_con")(x, labels, ids), x)
    ours = Criterion("sup_con", compile=True)
    for first in (0, 2**31 - 8, 2**62):
        # As 32 bits alone, all labels would be one.
        found = value_and_gradient(ours(x, labels * 2**32 + first if first else labels, ids + first), x)
        assert_same(found, expected)


def test_large_rectangles_are_streamed_by_themselves(monkeypatch):
    x, labels = batch(40)
    expected = value_and_gradient(Criterion(block_rows=None)(x, labels), x)
    rows = []
    monkeypatch.setattr(module, "STREAM_ABOVE", 400)
    monkeypatch.setattr(module, "BLOCK_CELLS", 400)
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    ours = Criterion()
    sums = ours.comparison.sums

    def counting(anchors, *rest):
        rows.append(len(anchors.ids))
        return sums(anchors, *rest)

    monkeypatch.setattr(ours.comparison, "sums", counting)
    assert_same(value_and_gradient(ours(x, labels), x), expected)
    assert rows == [10] * 4


def test_gradients_scale_with_what_follows_and_nothing_is_kept_without_them():
    x, labels = batch(12)
    ours = Criterion(block_rows=5)
    assert_same(value_and_gradient(3 * ours(x, labels), x)[1:], [3 * value_and_gradient(ours(x, labels), x)[1]])
    with torch.no_grad():
        assert not ours(x, labels).requires_grad
    assert not ours(x.detach(), labels).requires_grad


@pytest.mark.parametrize("block_rows", [None, 3])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_batches_have_a_value_and_a_gradient(n, block_rows):
    for memory in (None, exact_memory(5, DIM, storage="float64")):
        ours = Criterion(block_rows=block_rows, memory=memory)
        x, labels = batch(n)
        value, gradient = value_and_gradient(ours(x, labels), x)
        assert value == 0 or n == 2
        assert gradient.isfinite().all()


@pytest.mark.parametrize("block_rows", [None, 3])
def test_nan_is_seen(block_rows):
    x, labels = batch(8)
    x = x.detach().clone()
    x[2, 1] = float("nan")
    assert Criterion(block_rows=block_rows)(x, labels).isnan()


def test_compiled_is_the_same_and_sizes_do_not_compile_again_and_again():
    name, miner = "siglip", "multi_similarity"
    ours = criterion(name, miner=miner)
    compiled = criterion(name, miner=miner, compile=True)
    compiled.load_state_dict(ours.state_dict())
    counted = torch._dynamo.utils.counters
    before = counted["stats"]["unique_graphs"]
    for n in (12, 9, 17, 23, 31):
        x, labels = batch(n)
        found = [value_and_gradient(c(x, labels), *inputs_of(c, x)) for c in (ours, compiled)]
        assert_same(*found)
    assert counted["stats"]["unique_graphs"] - before <= 2


def test_compiled_against_a_memory():
    found = []
    for compile in (False, True):
        memory = exact_memory(20, DIM, storage="float64")
        ours = Criterion("circle", memory=memory, compile=compile)
        values = [value_and_gradient(ours(x, labels), x) for x, labels in (batch(8, step) for step in range(4))]
        found.append([v for value in values for v in value])
    assert_same(*found)


def test_without_a_compiler_one_line_says_so(caplog):
    from torch._inductor import config

    ours = Criterion("intra_pair_variance", compile=True)
    x, labels = batch(8)
    # `patch` puts the settings back; what pytest's monkeypatch puts back is gone for whoever compiles next.
    missing = config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True})
    with missing, caplog.at_level(logging.WARNING, "pullpush"):
        found = [ours(x, labels) for _ in range(3)]
    lines = [record.getMessage() for record in caplog.records if record.name == "pullpush"]
    assert len(lines) == 1
    assert "no-such-compiler" in lines[0]
    assert_same(found[2:], [Criterion("intra_pair_variance")(x, labels)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x, labels = batch(10)
    small = x.detach().to(dtype).requires_grad_()
    expected = Criterion()(small.detach().float(), labels)
    loss = Criterion()(small, labels)
    assert loss.dtype == torch.float32
    assert_same([loss], [expected], 1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same([Criterion()(small, labels)], [expected], 1e-6)


def test_a_learned_temperature_stays_in_bounds():
    x, labels = batch(10)
    ours = criterion("nt_xent", learn="temperature", temperature=0.07)
    assert_same([ours(x, labels)], [criterion("nt_xent", temperature=0.07)(x, labels)], 1e-6)
    ours(x, labels).backward()
    assert ours.learned["log_temperature"].grad != 0
    with torch.no_grad():
        ours.learned["log_temperature"].fill_(-20)
    assert_same([ours(x, labels)], [criterion("nt_xent", temperature=0.01)(x, labels)], 1e-6)


def test_classes_of_any_int64():
    x, labels = batch(10)
    assert_same([Criterion()(x, labels + (1 << 60))], [Criterion()(x, labels)])
    assert labels.max() < CLASSES
