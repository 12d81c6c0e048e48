"""The edges of numbers: NaN is seen, lengths from 1e-30 to 1e30, copies by pickle, second derivatives."""

import io
import pickle

import pytest
import torch
import torch.multiprocessing as mp

from pullpush.criterion import Criterion, Regularizer, Sum
from pullpush.criterion.columns import Columns
from pullpush.errors import UserError
from pullpush.maths import losses, miners
from pullpush.maths.similarity import SIMILARITIES, cosine, normalize
from tests.support.batches import ALL, DIM, assert_same, batch, criterion, exact_memory

NAN = float("nan")
WAYS = ("plain", "each", "blocks", "memory", "compiled")


def of_way(way: str, name: str, **options) -> Criterion | None:
    """None where the loss has no such way."""
    traits = losses.REGISTRY[name]().traits
    if way == "memory":
        if traits.proxies:
            return None
        memory = exact_memory(20, DIM, storage="float64")
        options["memory"] = memory
        ours = criterion(name, **options)
        ours(*batch(9, 5))
        return ours
    ours = criterion(name, **options, **{"blocks": {"block_rows": 4}, "each": {"reduction": "none"}}.get(way, {}))
    if way == "compiled":  # the same route as a compiled graph takes, without the minutes
        ours.execution.compiled = ours.comparison.sums
    return ours


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALL)
def test_not_a_number_in_not_a_number_out(name, way):
    for similarity in (None, *SIMILARITIES):
        for row in (0, 8):
            ours = of_way(way, name, similarity=similarity)
            if ours is None:
                return
            x, labels = batch(9)
            x = x.detach().clone()
            x[row, 1] = NAN
            found = ours(x.requires_grad_(), labels)
            assert found.isnan().any(), similarity
            assert found[row if way == "each" else ...].isnan()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("miner", [m for m in miners.REGISTRY])
def test_no_miner_hides_what_is_not_a_number(miner, way):
    for name in ("multi_similarity", "margin", "contrastive"):
        ours = of_way(way, name, miner=miner)
        x, labels = batch(9)
        x = x.detach().clone()
        x[8, 1] = NAN
        assert ours(x, labels).isnan().any()


@pytest.mark.parametrize("block_rows", [None, 4])
def test_not_a_number_among_the_references_or_the_proxies(block_rows):
    (x, labels), (y, _) = batch(8), batch(9, 1)
    y = y.detach().clone()
    y[3, 0] = NAN
    lonely = torch.full((9,), 77)  # nobody's positive
    for name in ("contrastive", "margin", "triplet"):
        ours = Criterion(name, block_rows=block_rows)
        assert ours(x, labels, references=y, reference_labels=lonely).isnan()
        mined = Criterion(name, block_rows=block_rows, miner="multi_similarity")
        assert mined(x, labels, references=y, reference_labels=lonely).isnan()
    for name in [n for n in ALL if losses.REGISTRY[n]().traits.proxies]:
        ours = criterion(name, block_rows=block_rows)
        with torch.no_grad():
            ours.proxies.weight[0, 0] = NAN
        assert ours(x, labels).isnan()


@pytest.mark.parametrize("options", [{}, {"layout": "table", "items": 60}])
@pytest.mark.parametrize("broken", [NAN, float("inf")])
def test_a_memory_never_takes_a_batch_that_is_not_finite(options, broken):
    def go(steps):
        memory = exact_memory(20, DIM, storage="float64", **options)
        ours = Criterion("contrastive", memory=memory)
        for step in steps:
            x, labels = batch(8, step)
            x = x.detach().clone()
            if step == 1:
                x[5, 2] = broken
            ours(x, labels, torch.arange(8) + 8 * step)
        return memory

    with_bad, without = go(range(3)), go((0, 2))
    assert with_bad.embeddings.isfinite().all()
    held = [m.columns() for m in (with_bad, without)]
    for name in ("embeddings", "labels", "ids"):
        first, second = (getattr(c, name)[c.holding()] for c in held)
        assert torch.equal(first, second), name
    assert int(with_bad.step) == 3
    x, labels = batch(8, 9)
    assert_same(*([Criterion("contrastive", memory=m)(x, labels, 50 + torch.arange(8))] for m in (with_bad, without)))


@pytest.mark.parametrize("options", [{}, {"layout": "table", "items": 60}])
def test_what_an_accelerator_runs_writes_the_same_without_asking_it(monkeypatch, options):
    """The route of an accelerator, on a CPU: decided by cells, not by a branch; no number of it is asked for."""

    def refuse(*_):
        raise AssertionError("asked the device")

    held = []
    for accelerated in (False, True):
        memory = exact_memory(12, DIM, storage="float64", **options)
        ours = Criterion("contrastive", memory=memory)
        with monkeypatch.context() as patch:
            if accelerated:
                patch.setattr("pullpush.criterion.memory.on_cpu", lambda x: False)
            for step in range(5):
                x, labels = batch(5, step)
                x = x.detach().clone()
                if step == 1:
                    x[0, 0] = NAN
                with monkeypatch.context() as asked:
                    if accelerated:
                        for name in ("__bool__", "__int__", "__float__", "item", "tolist"):
                            asked.setattr(torch.Tensor, name, refuse)
                    memory.enqueue(x, labels, torch.arange(5) + 5 * step)
                    memory.columns()
            held.append([*memory.state_dict().values(), ours(*batch(5, 9), 40 + torch.arange(5))])
    assert_same(*held)


def test_filling_a_memory_with_what_is_not_finite_is_refused():
    memory = exact_memory(20, DIM)
    batches = [(torch.full((4, DIM), NAN), torch.arange(4), torch.arange(4))]
    with pytest.raises(UserError, match="NaN"):
        memory.fill(torch.nn.Identity(), batches)
    assert int(memory.filled) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("length", [1e-30, 1e-15, 1.0, 1e15, 1e30])
def test_lengths_do_not_matter_to_the_cosine(dtype, length):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 8, generator=g, dtype=torch.float64)
    unit = x / x.square().sum(1, keepdim=True).sqrt()
    long = (unit * length).to(dtype).requires_grad_()
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(normalize(long).double(), unit, atol=tolerance, rtol=tolerance)
    towards = torch.randn(5, 8, generator=g, dtype=torch.float64)
    (normalize(long) * towards.to(normalize(long).dtype)).sum().backward()
    expected = (towards - (towards * unit).sum(1, keepdim=True) * unit) / length
    torch.testing.assert_close(long.grad.double() * length, expected * length, atol=3 * tolerance, rtol=3 * tolerance)
    mixed = torch.cat([long.detach(), (unit * 1e-15).to(dtype), (unit * 1e20).to(dtype)])
    torch.testing.assert_close(
        cosine(mixed, unit.to(dtype)).double(), (unit @ unit.mT).repeat(3, 1), atol=2 * tolerance, rtol=tolerance
    )


def test_a_row_of_zeros_stays_and_has_no_gradient():
    x = torch.randn(6, DIM, generator=torch.Generator().manual_seed(0))
    x[2] = 0.0
    x.requires_grad_()
    assert torch.equal(normalize(x)[2], torch.zeros(DIM))
    for name in ("multi_similarity", "contrastive", "nt_xent"):
        (gradient,) = torch.autograd.grad(Criterion(name)(x, torch.tensor([0, 0, 0, 1, 1, 1])), x)
        assert torch.equal(gradient[2], torch.zeros(DIM))
        assert 0 < gradient.abs().max() < 1e3
    assert torch.autograd.gradcheck(normalize, torch.randn(3, 4, dtype=torch.float64).requires_grad_())
    assert torch.autograd.gradgradcheck(normalize, torch.randn(3, 4, dtype=torch.float64).requires_grad_())


def copied(ours):
    return pickle.loads(pickle.dumps(ours))


@pytest.mark.parametrize("name", ALL)
def test_every_criterion_is_copied_by_pickle(name):
    x, labels = batch(8)
    ours = criterion(name, **({} if name in ("angular",) else {"miner": {"name": "multi_similarity", "epsilon": 0.2}}))
    assert_same([copied(ours)(x, labels)], [ours(x, labels)])
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    assert_same([torch.load(file, weights_only=False)(x, labels)], [ours(x, labels)])


def test_memories_sums_and_compiled_ones_are_copied_by_pickle():
    x, labels = batch(8)
    memory = exact_memory(20, DIM, storage="float64")
    ours = Sum([Criterion("contrastive", memory=memory), Regularizer("embedding_norm")], [1.0, 0.1])
    ours(*batch(8, 1))
    assert_same([copied(ours)(x, labels)], [ours(x, labels)])
    compiled = copied(Criterion("circle", margin=0.3, compile=True))
    assert compiled.execution.compiled.function(*_parts(compiled, x, labels))[0].isfinite()


def _parts(ours, x, labels):
    side = Columns(x, labels, torch.arange(len(x)))
    return side, [x], side, {}


def _in_another_process(rank, ours, x, labels, folder):
    torch.save(ours(x, labels), f"{folder}/value.pt")


def test_a_criterion_goes_to_another_process(tmp_path):
    x, labels = batch(8)
    ours = criterion("circle", miner="multi_similarity", memory=exact_memory(20, DIM, storage="float64"))
    expected = copied(ours)(x, labels)
    mp.spawn(_in_another_process, (ours, x.detach(), labels, str(tmp_path)), nprocs=1)
    assert_same([torch.load(tmp_path / "value.pt")], [expected])


def slope_of_the_gradient(ours, x, labels, ids, towards, step=1e-5):
    """Central difference of the gradient along a direction."""
    ends = [torch.autograd.grad(ours(x + d * towards, labels, ids), x)[0] for d in (step, -step)]
    return (ends[0] - ends[1]) / (2 * step)


# Through operators of our own that have no second derivative, and say so.
NOT_TWICE = {"angular", "pnp", "recall_at_k", "smooth_ap", "triplet_swap"}
# Their weights are constants of the gradient, as their papers have it: it is not the slope of anything.
CONSTANT_WEIGHTS = {"circle", "ranked_list"}


@pytest.mark.parametrize("way", ["plain", "blocks", "memory", "compiled"])
@pytest.mark.parametrize("name", [n for n in ALL if n not in CONSTANT_WEIGHTS])
def test_second_derivatives_are_right_or_refused(name, way):
    ours = of_way(way, name)
    if ours is None:
        return
    ours.memory = None if way != "memory" else ours.memory
    x, labels = batch(9)
    towards = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    ids = torch.arange(9)

    def twice():
        (gradient,) = torch.autograd.grad(ours(x, labels, ids), x, create_graph=True)
        return torch.autograd.grad((gradient * towards).sum(), x)[0]

    if way != "plain" and not (way == "blocks" and ours.whole):
        with pytest.raises(UserError, match="block_rows=None"):
            twice()
    elif name in NOT_TWICE:
        with pytest.raises(RuntimeError, match=r"no autograd formula|not differentiable"):
            twice()
    else:
        expected = slope_of_the_gradient(ours, x, labels, ids, towards)
        torch.testing.assert_close(twice(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("way", ["no anchor", "no reference"])
@pytest.mark.parametrize(
    ("name", "miner"), [*((name, None) for name in ALL), *(("triplet", name) for name in [None, *miners.REGISTRY])]
)
def test_a_batch_of_nothing_costs_nothing(name, miner, way):
    ours = Criterion("triplet", kind="hard", miner=miner) if name == "triplet" else criterion(name)
    x = torch.randn(3 if way == "no reference" else 0, DIM, dtype=torch.float64, requires_grad=True)
    labels, nothing = torch.arange(len(x)), torch.zeros(0, dtype=torch.int64)
    if way == "no anchor":
        found = ours(x, labels)
    elif ours.proxies is not None:
        pytest.skip("proxies are the only references")
    else:
        found = ours(x, labels, references=x[:0].detach(), reference_labels=nothing)
    assert found == 0
    assert (torch.autograd.grad(found, x)[0] == 0).all()


def test_an_empty_list_is_labels_and_ids_of_nothing():
    assert Criterion("contrastive")(torch.zeros(0, DIM), [], []) == 0


def test_vicreg_of_nothing_is_0():
    assert Regularizer("vicreg")(torch.zeros(0, DIM), torch.zeros(0, dtype=torch.int64)) == 0


def test_a_memory_is_of_one_criterion_and_one_direction():
    memory = exact_memory(8, DIM)
    with pytest.raises(UserError, match="give each its own"):
        Criterion("nt_xent", symmetric=True, memory=memory, reverse_memory=memory)
    parts = [Criterion("nt_xent", symmetric=True, reverse_memory=memory) for _ in range(2)]
    with pytest.raises(UserError, match="share a memory"):
        Sum(parts)
    with pytest.raises(UserError, match="share a memory"):
        Sum([Sum(parts[:1]), parts[1]])
