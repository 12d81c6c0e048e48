"""The cross-batch memory: what it holds, and that it is nothing but more columns."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pullpush.criterion import Criterion, CrossBatchMemory, Proxies
from pullpush.data.sampler import ClassBalancedSampler
from pullpush.errors import UserError
from tests.support.batches import BESIDE, CLASSES, DIM, assert_same, batch, criterion, exact_memory, value_and_gradient
from tests.support.bedside import Head, seeded


def held(n: int, seed: int = 7, first_id: int = 100):
    x, labels = batch(n, seed)
    return x.detach(), labels, first_id + torch.arange(n)


def memory(size=12, **options):
    return exact_memory(size, DIM, storage="float64", **options)


GUARDED = {"combine": "sum", "compensate": "moments", "tolerance": 1.0}
"""The defaults."""


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("full", [True, False])
def test_a_memory_is_a_batch_with_extra_gradient_free_columns(name, full):
    x, labels = batch(9)
    ids = torch.arange(9)
    y, y_labels, y_ids = held(10)
    y_ids[3] = 2  # the anchor of the batch itself, from an earlier epoch
    remembered = memory(10 if full else 14)
    ours = criterion(name, memory=remembered)
    remembered.enqueue(y, y_labels, y_ids)
    found = value_and_gradient(ours(x, labels, ids), x)
    joined = criterion(name)(
        x,
        labels,
        ids,
        references=torch.cat([x, y]),
        reference_labels=torch.cat([labels, y_labels]),
        reference_ids=torch.cat([ids, y_ids]),
    )
    assert_same(found, value_and_gradient(joined, x))
    assert not torch.equal(found[0], criterion(name)(x, labels, ids)) or name == "threshold_consistent_margin"


def test_sum_and_memory_alone_are_what_they_say():
    x, labels = batch(8)
    ids = torch.arange(8)
    y, y_labels, y_ids = held(12)
    plain = Criterion("contrastive")
    beside = plain(x, labels, ids)
    against = plain(x, labels, ids, references=y, reference_labels=y_labels, reference_ids=y_ids)
    for combine, expected in (("sum", beside + 0.3 * against), ("memory", against)):
        remembered = memory(combine=combine, weight=0.3)
        ours = Criterion("contrastive", memory=remembered)
        assert_same([ours(x, labels, ids)], [beside])
        remembered.load_state_dict(memory().state_dict())
        remembered.enqueue(y, y_labels, y_ids)
        assert_same(value_and_gradient(ours(x, labels, ids), x), value_and_gradient(expected, x))


def test_enqueued_before_anchors_meet_their_batch_but_never_themselves():
    x, labels = batch(8)
    for ids in (torch.arange(8), None):
        ours = Criterion("contrastive", memory=memory(combine="memory", enqueue="before"))
        found = value_and_gradient(ours(x, labels, ids), x)
        own = torch.arange(8)
        alone = Criterion("contrastive")(
            x, labels, own, references=x.detach(), reference_labels=labels, reference_ids=own
        )
        assert_same(found, value_and_gradient(alone, x))


@pytest.mark.parametrize(("size", "step"), [(12, 4), (10, 4), (7, 3), (5, 8)])
def test_a_queue_holds_the_most_recent(size, step):
    remembered, seen = memory(size), []
    for turn in range(6):
        x, labels, ids = held(step, seed=turn, first_id=step * turn)
        remembered.enqueue(x, labels, ids)
        seen += ids.tolist()
        columns = remembered.columns()
        kept = columns.ids if columns.valid is None else columns.ids[columns.valid]
        assert sorted(kept.tolist()) == sorted(seen[-size:])
    place = (remembered.ids == seen[-1]).nonzero()[0, 0]
    torch.testing.assert_close(remembered.embeddings[place], x[-1])
    assert remembered.labels[place] == labels[-1]
    assert remembered.ages()[place] == 1
    assert remembered.ages().max() <= -(-size // step) + 1


def test_a_table_has_one_place_an_item_and_shows_the_most_recent():
    remembered = memory(0.5, items=8, layout="table")
    for turn, ids in enumerate([[0, 1, 2], [3, 4, 5], [1, 6, 1]]):
        x, labels, _ = held(3, seed=turn)
        remembered.enqueue(x, labels, torch.tensor(ids))
    columns = remembered.columns()
    assert len(columns.ids) == 4
    shown = columns.ids[columns.valid].tolist()
    assert {1, 6} < set(shown)
    assert set(shown) < {1, 6, 3, 4, 5}
    torch.testing.assert_close(remembered.embeddings[1], x[2])  # the last of the two
    assert sorted(remembered.ages().tolist()) == [1, 1, 2, 2]
    assert int(remembered.filled) == 7


def test_a_table_of_any_ids():
    known = torch.tensor([40, 7, 1000])
    remembered = memory(3, items=known, layout="table")
    x, labels, _ = held(2)
    remembered.enqueue(x, labels, torch.tensor([1000, 7]))
    columns = remembered.columns()
    assert set(columns.ids[columns.valid].tolist()) == {7, 1000}
    with pytest.raises(UserError, match="id 8 is none of the 3 items"):
        remembered.enqueue(x, labels, torch.tensor([7, 8]))


def test_before_the_start_step_nothing_is_written_or_read():
    remembered = memory(start_step=2)
    ours, plain = Criterion(memory=remembered), Criterion()
    for step in range(2):
        x, labels = batch(6, step)
        assert_same([ours(x, labels)], [plain(x, labels)])
        assert int(remembered.filled) == 0
    ours(*batch(6, 2))
    assert int(remembered.filled) == 6
    assert int(remembered.step) == 3


def test_an_empty_batch_changes_nothing():
    for layout in ("queue", "table"):
        remembered = memory(12, items=200, layout=layout)
        remembered.enqueue(*held(5))
        before = copy.deepcopy(remembered.state_dict())
        remembered.enqueue(torch.zeros(0, DIM), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        for name, value in remembered.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_evaluation_neither_reads_nor_writes():
    remembered = memory()
    remembered.enqueue(*held(5))
    ours = Criterion(memory=remembered).eval()
    x, labels = batch(6)
    assert_same([ours(x, labels)], [Criterion()(x, labels)])
    assert int(remembered.filled) == 5


@pytest.mark.parametrize(
    "options", [{}, {"layout": "table", "items": 40}, {"start_step": 3}, {"combine": "memory"}, GUARDED]
)
@pytest.mark.parametrize("cut", [1, 4])
def test_resumed_is_uninterrupted(options, cut):
    def make():
        return Criterion("multi_similarity", memory=memory(10, **options))

    def run(criterion, steps):
        found = []
        for step in steps:
            g = torch.Generator().manual_seed(step)
            found.append(criterion(*batch(6, step), torch.randint(40, (6,), generator=g)).item())
        return found

    whole, first, second = make(), make(), make()
    expected = run(whole, range(8))
    run(first, range(cut))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert run(second, range(cut, 8)) == expected[cut:]


def test_unnamed_embeddings_are_never_the_same_after_resuming():
    first, second = (Criterion(memory=memory(20)) for _ in range(2))
    first(*batch(6))
    second.load_state_dict(first.state_dict())
    second(*batch(6))
    assert len(set(second.memory.ids[:12].tolist())) == 12


def test_fill_takes_seeded_items_as_the_model_sees_them_in_use():
    inputs = torch.arange(60.0)[:, None].expand(60, DIM)
    dataset = TensorDataset(inputs, torch.arange(60) % CLASSES, torch.arange(60))
    encoder = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(DIM))
    encoder[1].eval()  # a frozen norm
    loader = DataLoader(dataset, batch_size=8, shuffle=True)
    found = []
    for seed in (0, 0, 1):
        remembered = memory(20)
        remembered.fill(encoder, loader, seed=seed)
        found.append(remembered.ids.tolist())
        assert [module.training for module in encoder.modules()] == [True, True, False]
    assert found[0] == found[1] != found[2]
    assert len(set(found[0])) == 20
    torch.testing.assert_close(remembered.embeddings, encoder.eval()(inputs[remembered.ids]).double())
    assert torch.equal(remembered.labels, remembered.ids % CLASSES)
    table = memory(0.5, items=60, layout="table")
    table.fill(encoder, [(inputs, dataset.tensors[1], dataset.tensors[2])])
    assert int(table.filled) == 30


def test_half_precision_halves_the_bytes_and_hardly_moves_the_loss():
    x, labels = batch(8)
    y, y_labels, y_ids = held(64)
    found = {}
    for storage in ("float32", "bfloat16", "float16"):
        remembered = exact_memory(64, DIM, storage=storage)
        ours = Criterion("multi_similarity", memory=remembered)
        remembered.enqueue(y, y_labels, y_ids)
        found[storage] = ours(x.float(), labels)
    assert remembered.embeddings.element_size() == 2
    assert (found["bfloat16"] - found["float32"]).abs() < 0.02
    assert (found["float16"] - found["float32"]).abs() < 0.002


def test_two_towers_each_with_a_memory():
    images, labels = batch(6, 1)
    texts = batch(6, 2)[0]
    of_texts, of_images = memory(20), memory(20)
    both = Criterion("nt_xent", symmetric=True, memory=of_texts, reverse_memory=of_images)
    of_texts.enqueue(*held(5, 3, 200))
    of_images.enqueue(*held(5, 4, 300))
    ids, text_ids = torch.arange(6), 50 + torch.arange(6)
    found = both(images, labels, ids, references=texts, reference_labels=labels, reference_ids=text_ids)
    plain = Criterion("nt_xent")

    def one_way(anchors, anchor_ids, columns, column_ids, extra):
        return plain(
            anchors,
            labels,
            anchor_ids,
            references=torch.cat([columns, extra[0]]),
            reference_labels=torch.cat([labels, extra[1]]),
            reference_ids=torch.cat([column_ids, extra[2]]),
        )

    forth = one_way(images, ids, texts, text_ids, held(5, 3, 200))
    back = one_way(texts, text_ids, images, ids, held(5, 4, 300))
    assert_same(value_and_gradient(found, images, texts), value_and_gradient((forth + back) / 2, images, texts))
    torch.testing.assert_close(of_texts.embeddings[5:11], torch.nn.functional.normalize(texts.detach()))
    torch.testing.assert_close(of_images.embeddings[5:11], torch.nn.functional.normalize(images.detach()))


def test_a_memory_of_label_sets():
    remembered = memory(10, label_shape=(CLASSES,))
    ours = Criterion("contrastive", relation="shared_label", memory=remembered)
    one_hot = torch.nn.functional.one_hot
    (x, labels), (y, y_labels) = batch(6), batch(5, 1)
    ours(y, one_hot(y_labels, CLASSES))
    plain = Criterion("contrastive", memory=memory(10))
    plain(y, y_labels)
    assert_same([ours(x, one_hot(labels, CLASSES))], [plain(x, labels)])


def test_moved_and_cast_like_any_module():
    remembered = memory().to(torch.float32)
    assert remembered.embeddings.dtype == torch.float32
    assert remembered.ids.dtype == torch.int64
    assert next(iter(remembered.to("meta").buffers())).device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: memory(0.5), "give items="),
        (lambda: memory(0), "from 1 to 100,000,000"),
        (lambda: memory(4, layout="table"), "give items="),
        (lambda: memory(4, layout="list"), "'queue' or 'table'"),
        (lambda: memory(4, combine="both"), "'joint', 'sum', 'memory'"),
        (lambda: Criterion("proxy_nca", proxies=Proxies(3, DIM), memory=memory()), "only columns"),
        (lambda: Criterion(reverse_memory=memory()), "symmetric=True"),
        (lambda: Criterion(memory=memory(4, items=9, layout="table"))(*batch(4)), "give the ids"),
    ],
)
def test_what_can_not_be_is_said(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("compensate", ["moments", "mean", "none"])
def test_what_is_held_is_read_as_if_it_had_moved_as_all_have(compensate):
    first, second = (batch(10, seed)[0].detach() * 3 + seed for seed in (1, 2))
    remembered = CrossBatchMemory(10, DIM, storage="float64", compensate=compensate, tolerance=0)
    remembered.keep_unit_length()
    labels = torch.arange(10)
    remembered.enqueue(first, labels, labels)
    remembered._note(second)
    x, y = (each / each.norm(dim=1, keepdim=True) for each in (first, second))
    if compensate == "moments":
        x = (x - x.mean(0)) / x.std(0) * y.std(0) + y.mean(0)
    if compensate == "mean":
        x = x - x.mean(0) + y.mean(0)
    torch.testing.assert_close(remembered.columns().embeddings, x / x.norm(dim=1, keepdim=True), atol=1e-6, rtol=1e-5)


def test_a_motion_that_all_embeddings_share_changes_nothing():
    y, y_labels, y_ids = held(16)
    ours = Criterion("contrastive", similarity="dot", memory=memory(16, compensate="moments"))
    ours.memory.enqueue(y, y_labels, y_ids)
    moved = 0.5 * y + torch.arange(DIM)
    # A batch of the same items, which the model has moved: what is held follows.
    ours.memory._note(moved)
    torch.testing.assert_close(ours.memory.columns().embeddings, moved, atol=1e-5, rtol=1e-5)


def test_a_batch_too_small_for_moments_is_taken_to_have_the_last_ones():
    remembered = memory(10, compensate="moments")
    for number, x in enumerate((batch(9, 1)[0].detach(), batch(1, 2)[0].detach())):
        ids = 100 * number + torch.arange(len(x))
        remembered.enqueue(x, ids, ids)
    torch.testing.assert_close(remembered.columns().embeddings[9], x[0], atol=1e-6, rtol=1e-5)


def test_nothing_is_read_from_the_age_on_at_which_items_have_moved_too_far():
    g = torch.Generator().manual_seed(0)
    still, _ = batch(16, 1)
    remembered = memory(400, tolerance=0.5)
    ours = Criterion("contrastive", similarity="cosine", memory=remembered)
    for step in range(40):
        # Sixteen items stay where they are and come each time; sixteen others come every eighth time, elsewhere.
        x, ids = still.detach(), torch.arange(16)
        if step % 8 == 0:
            x, ids = torch.cat([x, torch.randn(16, DIM, generator=g)]), torch.arange(32)
        ours(x, ids % CLASSES, ids)
    assert int(remembered.limit) == 7
    valid = remembered.columns().valid
    assert torch.equal(valid, (remembered.ages() > 0) & (remembered.ages() <= 7))
    assert float(remembered.changed[0]) < 1e-6
    assert 0.5 < float(remembered.changed[3] / remembered.spread) < 1.5


def test_where_all_stay_all_is_read_and_where_all_move_nothing_is():
    for moving in (False, True):
        remembered = memory(100, tolerance=0.5)
        ours = Criterion("contrastive", memory=remembered)
        x, labels = batch(12, 5)
        for step in range(6):
            x = batch(12, step)[0] if moving else x
            ours(x.detach(), labels, torch.arange(12))
        assert float(remembered.columns().valid.sum()) == (0 if moving else 72)


def test_without_ids_no_item_is_seen_again_and_all_is_read():
    remembered = memory(100, tolerance=0.1)
    ours = Criterion("contrastive", memory=remembered)
    for step in range(6):
        ours(*batch(12, step))
    assert remembered.columns().valid is None or int(remembered.columns().valid.sum()) == 72
    assert int(remembered.seen.sum()) == 0


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float16"])
def test_empty_places_are_no_numbers_to_divide_by(storage):
    """Before any batch was large enough for moments, too."""
    ours = Criterion("contrastive", memory=CrossBatchMemory(20, DIM, storage=storage))
    for step in range(4):
        assert ours(*batch(6, step), torch.arange(6)).isfinite()


def test_a_batch_that_is_not_finite_leaves_moments_and_drift_as_they_were():
    remembered = memory(100, **GUARDED)
    ours = Criterion("contrastive", memory=remembered)
    for step in range(3):
        ours(*batch(12, step), torch.arange(12))
    before = {name: value.clone() for name, value in remembered.state_dict().items() if name != "step"}
    x, labels = batch(12)
    ours(torch.full_like(x, torch.nan), labels, torch.arange(12))
    after = remembered.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name not in ("seen",))


def _trained(make):
    """Mean cosine of different classes after a training so fast that hardly anything stays where it was."""
    g, classes = torch.Generator().manual_seed(1), 150
    labels = torch.arange(classes).repeat_interleave(6)
    scale = torch.tensor([0.7] * 4 + [2.1] * 4)
    hidden = torch.randn(classes, 8, generator=g)[labels] + scale * torch.randn(len(labels), 8, generator=g)
    x = torch.tanh(hidden @ torch.randn(8, 64, generator=g) / 3)
    encoder = seeded(lambda: Head(*[m for n in (64, 128) for m in (nn.Linear(n, 128), nn.ReLU())], nn.Linear(128, 16)))
    ours = Criterion("contrastive", memory=make())
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.01)
    for _, rows in zip(range(150), ClassBalancedSampler(labels, 24, 3, passes=None), strict=False):
        rows = torch.tensor(rows)
        optimizer.zero_grad()
        ours(encoder(x[rows]), labels[rows], rows).backward()
        optimizer.step()
    with torch.no_grad():
        s = encoder(x) @ encoder(x).T
    return float(s[labels[:, None] != labels].mean())


def test_a_memory_read_as_it_was_written_gathers_all_embeddings_and_the_default_does_not():
    without, default = _trained(lambda: None), _trained(lambda: CrossBatchMemory(600, 16))
    assert default < without + 0.05
    assert _trained(lambda: exact_memory(600, 16)) > without + 0.2


@pytest.mark.parametrize("items", [0, -3, 2.5, "many", torch.zeros(0, dtype=torch.int64)])
def test_a_table_needs_items(items):
    with pytest.raises(UserError, match="items of CrossBatchMemory must be a whole number from 1"):
        CrossBatchMemory(4, DIM, layout="table", items=items)


@pytest.mark.parametrize("counts", [(3, 1, 3), (1, 3, 3), (3, 3, 1)])
def test_one_label_is_not_taken_for_many_items(counts):
    remembered = memory()
    embeddings, labels, ids = (part[:count] for part, count in zip(held(3), counts, strict=True))
    with pytest.raises(UserError, match="give as many of each"):
        remembered.enqueue(embeddings, labels, ids)
    assert remembered.empty


class Stream(IterableDataset):
    def __iter__(self):
        return zip(*held(20), strict=True)


def test_a_memory_is_filled_from_the_start_of_a_stream():
    remembered = memory(12)
    remembered.fill(nn.Identity(), DataLoader(Stream(), batch_size=5))
    assert remembered.ids.tolist() == held(20)[2][:12].tolist()
    assert (remembered.entered == 0).all()
