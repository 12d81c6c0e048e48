"""docs/from-oml.md: our loop runs; beside OML, where it is installed, with equal values and every name there."""

import inspect
import re
from typing import Any

import pytest
import torch

from pullpush import losses, miners, relations
from pullpush.criterion import Criterion, CrossBatchMemory, Proxies
from tests.support.pages import blocks, in_float64, names, printed, section, tables

PAGE = "from-oml.md"
C, D = 4, 6
TABLE = tables(section(PAGE, "Losses and miners"))[0]
HERE: dict[str, Any] = {
    **{"losses": losses, "miners": miners, "relations": relations, "Criterion": Criterion, "Proxies": Proxies},
    **{"CrossBatchMemory": CrossBatchMemory, "C": C, "D": D},
}
# Of version 4.0.0.
NAMES = {
    "losses": "ArcFaceLoss ArcFaceLossWithMLP SurrogatePrecision TripletLoss TripletLossPlain TripletLossWithMiner",
    "miners": "AllTripletsMiner HardClusterMiner HardTripletsMiner MinerWithBank NHardTripletsMiner PairsMiner "
    "TripletMinerWithMemory",
    "samplers": "BalanceSampler CategoryBalanceSampler DistinctCategoryBalanceSampler",
    "metrics": "EmbeddingMetrics calc_fnmr_at_fmr_rr calc_retrieval_metrics_rr calc_topological_metrics",
    "retrieval": "AdaptiveThresholding ConstantThresholding PairwiseReranker RetrievalResults",
    "inference": "inference inference_cached pairwise_inference",
}


def test_our_loop_learns() -> None:
    both, _, here = blocks(section(PAGE, "The same loop"))
    *found, metrics = printed(both, here)
    assert len(found) == 20
    assert found[-1] < found[0]
    assert 0.125 < metrics[0] < metrics[1]


def test_no_name_is_left_out() -> None:
    listed = {
        name for row in TABLE for code in re.findall(r"`([^`]+)`", row[0]) for name in re.findall(r"[A-Z]\w+", code)
    }
    wanted = {name for module in ("losses", "miners") for name in NAMES[module].split()}
    assert listed - {"C", "D", "None"} == wanted
    rest = {name for row in tables(section(PAGE, "Samplers, metrics, retrieval"))[0] for name in names(row[0])}
    assert rest == {
        name for module in ("samplers", "metrics", "retrieval", "inference") for name in NAMES[module].split()
    }


@pytest.mark.parametrize("code", sorted({row[1].strip("`") for row in TABLE if not row[1].startswith("-")}))
def test_our_code_is_right(code: str) -> None:
    assert eval(f"Criterion({code})", HERE)(torch.randn(8, D), torch.arange(8) % C).isfinite()


def test_every_name_is_there() -> None:
    pytest.importorskip("oml", reason="Open Metric Learning is not installed (it asks for NumPy 1)")
    import importlib

    for module, wanted in NAMES.items():
        made = importlib.import_module(f"oml.{module}")
        found = {name for name, each in vars(made).items() if inspect.isclass(each) or inspect.isfunction(each)}
        assert set(wanted.split()) == found - {"get_available_triplets"}


def test_the_two_loops_print_the_same() -> None:
    pytest.importorskip("oml", reason="Open Metric Learning is not installed (it asks for NumPy 1)")
    both, there, here = blocks(section(PAGE, "The same loop"))
    with in_float64():
        *theirs, metrics = printed(both, there)
        *found, ours = printed(both, here)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(theirs), rtol=1e-6, atol=0)
    assert ours == pytest.approx([float(metrics[0]["cmc"][k]) for k in (1, 10)])


@pytest.mark.parametrize(
    ("there", "here", "values"),
    [pytest.param(a.strip("`"), b.strip("`"), c, id=a.strip("`")) for a, b, c in TABLE if not b.startswith("-")],
)
def test_values_of_losses(there: str, here: str, values: str) -> None:
    pytest.importorskip("oml", reason="Open Metric Learning is not installed (it asks for NumPy 1)")
    import oml.losses
    import oml.miners

    theirs = eval(there, {**vars(oml.miners), **vars(oml.losses), "C": C, "D": D}).double()
    ours = eval(f"Criterion({here})", HERE).double()
    if ours.proxies is not None:
        theirs.weight.data = ours.proxies.weight.detach().clone()
    labels, found = torch.arange(12) % C, []
    for loss in (theirs, ours):
        x = torch.randn(12, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        value = loss(x, labels)
        found.append((value, *torch.autograd.grad(value, x)))
    same = all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(*found, strict=True))
    assert same == values.startswith("equal")
