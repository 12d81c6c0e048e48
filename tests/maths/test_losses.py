"""Every loss of the registry against its oracle, and the laws that hold for all of them."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pullpush.criterion import Criterion, Proxies
from pullpush.maths.losses import REGISTRY, base
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss, per_anchor, value
from tests.support.batches import exact_memory
from tests.support.oracles import CASES, ORACLES
from tests.support.rectangles import KINDS, Case, Rectangle, make

DEFAULTS = [Case(name, loss, {}) for name, loss in REGISTRY.items()]
ALL = DEFAULTS + [Case(name, REGISTRY[name], o) for name, options in CASES.items() if name in REGISTRY for o in options]
# What a person may turn up until exponentials overflow, by the option's name.
SHARPEST = {"temperature": 0.01, "scale": 1000.0}
EXTREMES = [
    Case(c.name, c.loss, {option: extreme})
    for c in DEFAULTS
    for option, extreme in SHARPEST.items()
    if option in c.chosen.options
]
INDUCTOR = ("multi_similarity", "nt_xent", "triplet")


def title(case: Case) -> str:
    return "-".join([case.name, *(f"{k}={v}" for k, v in case.options.items())])


each_case = pytest.mark.parametrize("case", ALL, ids=title)
each_loss = pytest.mark.parametrize("case", DEFAULTS, ids=title)
each_kind = pytest.mark.parametrize("kind", KINDS)


def expected(case: Case, r: Rectangle, **changed) -> float:
    """The oracle's value of a rectangle."""
    options = {**case.options, **changed}
    if case.wants_references:
        options["reference_similarity"] = r.reference_similarity.tolist()
    return ORACLES[case.name](r.similarity.tolist(), r.pairs.positive.tolist(), r.pairs.negative.tolist(), **options)


def test_each_loss_has_an_oracle_and_each_oracle_a_loss():
    assert set(ORACLES) == set(REGISTRY)
    assert set(CASES) <= set(ORACLES)


@each_loss
def test_docstring_has_formula_options_and_source(case):
    text = inspect.getdoc(case.loss)
    assert text
    assert "$$" in text
    assert "Source:" in text
    for p in inspect.signature(case.chosen.function).parameters.values():
        assert f"{p.name}:" in text, f"Args: lacks {p.name}"
        assert (p.kind is p.KEYWORD_ONLY) == (p.name != "rectangle")
    defaults = inspect.signature(ORACLES[case.name]).parameters
    for name, default in case.chosen.options.items():
        assert defaults[name].default == default


@each_case
@each_kind
def test_value_is_the_oracles(case, kind):
    for seed in range(3):
        r = case.rectangle(kind, seed, anchors=6 + seed)
        assert case.value(r).item() == pytest.approx(expected(case, r), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", EXTREMES, ids=title)
@pytest.mark.parametrize("kind", ["square", "ragged"])
def test_value_is_the_oracles_at_sharp_options(case, kind):
    r = case.rectangle(kind)
    assert case.value(r).item() == pytest.approx(expected(case, r), rel=1e-9, abs=1e-9)


FEW_POSITIVES = [c for c in ALL if c.chosen.traits.proxies or c.name in ("n_pair", "nt_xent", "tuplet_margin")]


@pytest.mark.parametrize("case", FEW_POSITIVES, ids=title)
@pytest.mark.parametrize("kind", ["square", "multi_label", "no_pair_at_all"])
def test_few_positives_are_read_one_by_one_to_the_same_end(monkeypatch, case, kind):
    """From 16 columns on; with proxies, one positive an anchor is a cross entropy."""
    r = case.rectangle(kind, anchors=64)
    assert r.similarity.shape[1] >= 16
    value, gradients = case.value_and_gradients(r)
    assert value.item() == pytest.approx(expected(case, r), rel=1e-9, abs=1e-9)
    monkeypatch.setattr(base, "cells_of", lambda mask: None)
    same, others = case.value_and_gradients(r)
    torch.testing.assert_close(value, same)
    torch.testing.assert_close(gradients, others)


def test_soft_triple_takes_the_proxies_of_each_class_alone():
    case = next(c for c in ALL if c.name == "soft_triple")
    r = case.rectangle("wide")
    of_classes = r.reference_similarity.unflatten(0, (-1, case.group)).unflatten(2, (-1, case.group))
    within = of_classes.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    torch.testing.assert_close(case.value(replace(r, reference_similarity=within)), case.value(r))


@each_case
@pytest.mark.parametrize("kind", ["wide", "ragged"])
def test_gradient_is_the_oracles_differences(case, kind):
    """Central differences of the oracle. Random points lie off the kinks of losses that have some."""
    r = case.rectangle(kind, anchors=5)
    learned = case.learned()
    constant = {"weights_at": r.similarity.tolist()} if has_constant_weights(case) else {}

    def difference(plus: Rectangle, minus: Rectangle, step: float) -> float:
        return (expected(case, plus, **constant) - expected(case, minus, **constant)) / (2 * step)

    step = 1e-6
    found, of_references, *of_learned = case.gradients(r)
    sides = [("similarity", found)] + ([("reference_similarity", of_references)] if case.wants_references else [])
    for name, gradient in sides:
        wanted = torch.zeros_like(gradient)
        for cell in np.ndindex(*wanted.shape):
            sides_of_cell = [getattr(r, name).clone() for _ in range(2)]
            sides_of_cell[0][cell] += step
            sides_of_cell[1][cell] -= step
            plus, minus = (Rectangle(**{**vars(r), name: s}) for s in sides_of_cell)
            wanted[cell] = difference(plus, minus, step)
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)
    for (name, at), gradient in zip(learned.items(), of_learned, strict=True):
        ends = [expected(case, r, **constant, **{**learned, name: at + d}) for d in (step, -step)]
        assert gradient.item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-6)


def has_constant_weights(case: Case) -> bool:
    return "weights_at" in inspect.signature(ORACLES[case.name]).parameters


@each_case
def test_gradcheck(case):
    if has_constant_weights(case):
        pytest.skip("its gradient is not the slope of its value; see the test with the oracle's differences")
    r = case.rectangle("wide", seed=1)
    assert torch.autograd.gradcheck(
        lambda s: case.value(Rectangle(s, r.pairs, r.reference_similarity)),
        r.similarity.clone().requires_grad_(),
        fast_mode=True,
    )


@each_case
def test_order_of_rows_and_columns_does_not_matter(case):
    g = torch.Generator().manual_seed(0)
    for kind in ("square", "wide", "ragged"):
        r = case.rectangle(kind)
        n, m = r.similarity.shape
        rows = torch.randperm(n, generator=g)
        groups = torch.randperm(m // case.group, generator=g)
        columns = (groups[:, None] * case.group + torch.randperm(case.group, generator=g)).reshape(-1)
        other = r.permuted(rows, columns)
        torch.testing.assert_close(case.value(other), case.value(r))
        torch.testing.assert_close(case.gradients(other)[0], case.gradients(r)[0][rows][:, columns])
        if not case.whole:
            torch.testing.assert_close(per_anchor(case(other)), per_anchor(case(r))[rows])


@each_case
def test_nothing_to_compare_gives_zero_with_a_gradient(case):
    r = case.rectangle("no_pair_at_all")
    loss = case(r)
    assert value(loss).item() == 0.0
    assert torch.equal(per_anchor(loss), torch.zeros(len(r.similarity), dtype=torch.float64))
    if not case.chosen.traits.proxies:  # centres compared with each other are pulled by nobody's anchors
        for gradient in case.gradients(r):
            assert torch.equal(gradient, torch.zeros_like(gradient))


def in_range(case: Case, similarity: torch.Tensor) -> torch.Tensor:
    """[-1, 1] moved to where the loss's similarity lies."""
    return similarity if case.chosen.traits.similarity in ("cosine", "dot") else (similarity - 1).clamp(max=0)


def check_finite(case: Case, r: Rectangle) -> None:
    value_of, gradients = case.value_and_gradients(r)
    assert value_of.isfinite()
    for gradient in gradients:
        assert gradient.isfinite().all()


@pytest.mark.parametrize("case", ALL + EXTREMES, ids=title)
@pytest.mark.parametrize("kind", ["square", "ragged", "no_pair_at_all", "duplicates"])
def test_finite_at_the_ends_of_the_similarity(case, kind):
    r = case.rectangle(kind).to(torch.float32)
    sign = torch.where(torch.arange(r.similarity.numel()).view_as(r.similarity) % 2 == 0, 1.0, -1.0)
    own = torch.ones_like(r.reference_similarity)
    for similarity in (sign, -sign, sign.abs(), -sign.abs(), 0 * sign, 1.0000001 * sign):
        for reference_similarity in (own, -own) if case.wants_references else (own,):
            ends = Rectangle(in_range(case, similarity), r.pairs, in_range(case, reference_similarity))
            check_finite(case, ends)


@each_case
@pytest.mark.parametrize("masks", ["one_class", "no_positive", "one_sample"])
def test_finite_without_one_side(case, masks):
    r = case.rectangle("square").to(torch.float32)
    positive, negative = r.pairs
    some, none = positive | negative, positive & False
    if masks == "one_class":
        r = replace(r, pairs=Pairs(some, none))
    elif masks == "no_positive":
        r = replace(r, pairs=Pairs(none, some))
    else:
        r = case.rectangle("square", anchors=1).to(torch.float32)
    check_finite(case, r)
    assert case.value(r).item() == pytest.approx(expected(case, r), rel=1e-4, abs=1e-5)


SIDES = st.sampled_from(("none", "positive", "negative"))
CELLS = st.tuples(st.sampled_from((-1.0, -0.5, 0.0, 0.3, 1.0)) | st.floats(-1, 1, width=32), SIDES)


@each_loss
def test_any_rectangle_gives_finite_numbers_and_the_oracles_value(case):
    proxies = case.chosen.traits.proxies
    template = case.rectangle("square")
    columns = template.similarity.shape[1] if proxies or case.wants_references else None

    # The rectangles are small as they come: without shrinking a failure is told at once.
    @settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(st.data())
    def check(data):
        n = data.draw(st.integers(1, 4))
        m = columns or data.draw(st.integers(1, 5))
        rows = [data.draw(st.lists(CELLS, min_size=m, max_size=m)) for _ in range(n)]
        similarity = torch.tensor([[s for s, _ in row] for row in rows], dtype=torch.float64)
        sides = [torch.tensor([[side == s for _, side in row] for row in rows]) for s in ("positive", "negative")]
        similarity = in_range(case, similarity)
        r = Rectangle(similarity, Pairs(*sides), template.reference_similarity)
        check_finite(case, r)
        assert case.value(r).item() == pytest.approx(expected(case, r), rel=1e-7, abs=1e-7)
        assert (case(r).count >= 0).all()

    check()


@each_case
def test_rows_added_up_are_the_whole(case):
    if case.whole:
        pytest.skip("not a sum over anchors, as its traits say")
    for kind in ("square", "wide", "ragged"):
        r = case.rectangle(kind)
        first, second = case(r.rows(slice(0, 2))), case(r.rows(slice(2, None)))
        joined = AnchorLoss(torch.cat([first.total, second.total]), torch.cat([first.count, second.count]))
        torch.testing.assert_close(value(joined), case.value(r))


@each_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(case, dtype):
    half = case.rectangle("square").to(dtype)
    loss = case(half)
    assert loss.total.dtype == loss.count.dtype == torch.float32
    torch.testing.assert_close(value(loss), case.value(half.to(torch.float32)))


@each_case
def test_nan_is_not_hidden(case):
    for kind in ("square", "wide"):
        r = case.rectangle(kind)
        used = r.pairs.positive.any(1) & r.pairs.negative.any(1)
        row = int(used.nonzero()[0])
        for broken in ((row, slice(None)), (slice(None), int(r.pairs.positive[row].nonzero()[0]))):
            similarity = r.similarity.clone()
            similarity[broken] = math.nan
            s = Rectangle(similarity, r.pairs, r.reference_similarity)
            assert case.value(s).isnan()


def criterion_inputs(case: Case, columns: int = 0):
    """Embeddings, labels and ids of a batch, and options of a Criterion in float64."""
    g = torch.Generator().manual_seed(3)
    n = 9 + columns
    x = torch.randn(n, 8, generator=g, dtype=torch.float64)
    labels, ids = torch.arange(n) % 3, torch.arange(n)
    proxies = Proxies(3, 8, per_class=case.group) if case.chosen.traits.proxies else None
    return x, labels, ids, {**case.options, "proxies": proxies}


def run(criterion: Criterion, x, *rest, **more):
    x = x.clone().requires_grad_()
    loss = criterion(x, *rest, **more)
    inputs = [x, *criterion.parameters()]
    return loss, torch.autograd.grad(loss, inputs)


@each_case
def test_blocks_of_rows_are_the_whole(case):
    x, labels, ids, options = criterion_inputs(case)
    whole = run(Criterion(case.name, **options, block_rows=None).double(), x, labels, ids)
    blocks = run(Criterion(case.name, **options, block_rows=4).double(), x, labels, ids)
    torch.testing.assert_close(blocks, whole)


@each_case
def test_memory_is_extra_columns_without_gradient(case):
    if case.chosen.traits.proxies:
        pytest.skip("its columns are proxies")
    x, labels, ids, options = criterion_inputs(case, columns=5)
    memory = exact_memory(8, 8).double()
    memory.enqueue(x[9:], labels[9:], ids[9:])
    found = run(Criterion(case.name, **options, memory=memory).double(), x[:9], labels[:9], ids[:9])
    plain = Criterion(case.name, **options).double()
    inside = x[:9].clone().requires_grad_()
    loss = plain(
        inside,
        labels[:9],
        ids[:9],
        references=torch.cat([inside, x[9:]]),
        reference_labels=labels,
        reference_ids=ids,
    )
    torch.testing.assert_close(found, (loss, torch.autograd.grad(loss, [inside, *plain.parameters()])))


@each_loss
@pytest.mark.parametrize("n", [1, 2, 33, 130])
def test_sizes(case, n):
    check_finite(case, case.rectangle("square", anchors=n).to(torch.float32))


@pytest.mark.slow
@each_loss
@pytest.mark.parametrize("n", [512, 4096])
def test_large_sizes(case, n):
    check_finite(case, case.rectangle("square", anchors=n).to(torch.float32))


def check_compiled(case: Case, backend: str) -> None:
    torch._dynamo.reset()
    r = case.rectangle("wide").to(torch.float32)
    chosen = case.chosen
    compiled = torch.compile(lambda handed: chosen(handed, **case.options), backend=backend, fullgraph=True)
    similarity = r.similarity.clone().requires_grad_()
    found = value(compiled(case.handed(replace(r, similarity=similarity))))
    gradient = torch.autograd.grad(found, similarity)[0]
    torch.testing.assert_close(found, case.value(r).float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, case.gradients(r)[0], rtol=1e-3, atol=1e-4)


# Another number compiles to the same code; another choice does not.
BRANCHES = DEFAULTS + [c for c in ALL if any(isinstance(v, str | bool | int | None) for v in c.options.values())]


@pytest.mark.parametrize("case", BRANCHES, ids=title)
def test_compiler_takes_it_whole(case):
    check_compiled(case, "eager")


@pytest.mark.parametrize("case", [c for c in DEFAULTS if c.name in INDUCTOR], ids=title)
def test_compiled_code_is_right(case):
    check_compiled(case, "inductor")


@pytest.mark.slow
@each_loss
def test_compiled_code_is_right_for_every_loss(case):
    check_compiled(case, "inductor")


def test_rectangles_hold_what_their_names_say():
    """The frame itself: no law may pass because its rectangle is empty."""
    for kind in KINDS:
        for group in (0, 2):
            r = make(kind, 0, 6, "cosine", group)
            assert not (r.pairs.positive & r.pairs.negative).any()
            assert bool(r.pairs.positive.any() & r.pairs.negative.any()) == (kind != "no_pair_at_all")
    ragged = make("ragged", 0, 8, "cosine", 0).pairs
    assert not (ragged.positive.any(1) & ragged.negative.any(1)).all()
