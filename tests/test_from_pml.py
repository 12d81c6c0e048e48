"""docs/from-pml.md beside PyTorch Metric Learning: its loop, its values, and that no name is left out."""

import inspect
import re
from math import radians
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

import pullpush
from pullpush import losses, miners, regularizers, similarities
from pullpush.criterion import Criterion, CrossBatchMemory, Proxies, Regularizer, Sum
from pullpush.maths.pairs import Pairs, make_pairs
from pullpush.maths.rectangle import Rectangle
from tests.support.pages import DOCS, blocks, in_float64, names, printed, section, tables

pml = pytest.importorskip("pytorch_metric_learning")
import pytorch_metric_learning.distances as their_distances  # noqa: E402
import pytorch_metric_learning.losses as their_losses  # noqa: E402
import pytorch_metric_learning.miners as their_miners  # noqa: E402
import pytorch_metric_learning.reducers as their_reducers  # noqa: E402
import pytorch_metric_learning.regularizers as their_regularizers  # noqa: E402
import pytorch_metric_learning.samplers as their_samplers  # noqa: E402
import pytorch_metric_learning.testers as their_testers  # noqa: E402
import pytorch_metric_learning.trainers as their_trainers  # noqa: E402
from pytorch_metric_learning.utils import distributed, inference, logging_presets  # noqa: E402
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator  # noqa: E402

PAGE = "from-pml.md"
C, D = 4, 6
# What nobody calls.
WITHIN = re.compile(r"^Base|^GenericPairLoss$|Mixin$")


def of_module(module: Any) -> dict[str, Any]:
    return {name: made for name, made in vars(module).items() if inspect.isclass(made)}


THEIRS = {
    "Losses": of_module(their_losses),
    "Distances": of_module(their_distances),
    "Miners": of_module(their_miners),
    "Reducers": of_module(their_reducers),
    "Regularisers": of_module(their_regularizers),
    "Samplers": of_module(their_samplers),
    "Testers and accuracies": of_module(their_testers)
    | {
        name: getattr(inference, name)
        for name in ("CustomKNN", "FaissKMeans", "FaissKNN", "InferenceModel", "MatchFinder")
    }
    | {"AccuracyCalculator": AccuracyCalculator},
    "Trainers": of_module(their_trainers)
    | {n: getattr(logging_presets, n) for n in ("EmptyContainer", "HookContainer")},
}
THERE = {name: made for group in THEIRS.values() for name, made in group.items()} | {"torch": torch}
HERE = {
    "losses": losses,
    "miners": miners,
    "regularizers": regularizers,
    "radians": radians,
    "torch": torch,
    "Criterion": Criterion,
    "CrossBatchMemory": CrossBatchMemory,
    "Proxies": Proxies,
    "Regularizer": Regularizer,
    "Sum": Sum,
    "C": C,
    "D": D,
}


def rows(title: str, table: int = 0) -> list[list[str]]:
    return tables(section(PAGE, title))[table]


def pairs_of(table: list[list[str]]) -> list[Any]:
    """Rows that name something on both sides: code there, code here, what is said of the values."""
    return [
        pytest.param(there.strip("`"), here.strip("`"), values, id=there.strip("`"))
        for there, here, values in table
        if not here.startswith("-")
    ]


def vectors(seed: int = 0, n: int = 12) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.arange(12) % C


def test_the_two_loops_print_the_same() -> None:
    """As they stand in float32; in float64, with a memory that keeps it, to the last digits."""
    both, there, here = blocks(section(PAGE, "The same loop"))

    figures = re.search(r"three figures \(([\d.]+), ([\d.]+) and ([\d.]+)\)", section(PAGE, "The same loop"))
    assert figures
    said = tuple(map(float, figures.groups()))

    def run(ours: str, rtol: float) -> None:
        *theirs, accuracy = printed(both, there)
        *found, metrics = printed(both, ours)
        assert len(found) == len(theirs) == 20  # the memory is full after four
        torch.testing.assert_close(torch.tensor(found), torch.tensor(theirs), rtol=rtol, atol=0)
        wanted = [accuracy[0][name] for name in ("precision_at_1", "r_precision", "mean_average_precision_at_r")]
        assert metrics == pytest.approx(wanted, abs=1e-6)
        assert theirs[-1] < theirs[4]
        assert rtol < 1e-6 or metrics == pytest.approx(said, abs=0.02)  # another processor, other last digits

    run(here, rtol=2e-5)
    wide = here.replace("dim=16,", 'dim=16, storage="float64",')
    assert wide != here
    with in_float64():
        run(wide, rtol=1e-9)


def of_proxies(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Gives the peer the proxies of ours, which it keeps as rows or as columns."""
    for module in ours.modules():
        if isinstance(module, Proxies):
            (held,) = theirs.parameters()
            weight = module.weight.detach()
            assert {held.shape, held.T.shape} & {weight.shape}
            held.data = (weight if held.shape == weight.shape else weight.T).clone()


def measured(there: str, here: str, unit: bool) -> tuple[Any, Any]:
    """Value and gradient of both, of embeddings that are normalised first where they are to be of length 1."""
    here = f"Criterion({here})" if here.startswith("losses.") else here
    theirs, ours = eval(there, THERE | {"C": C, "D": D}), eval(here, HERE).double()
    if isinstance(ours, Criterion) and ours.memory is not None:
        theirs, ours = theirs.double(), ours.double()
    of_proxies(ours, theirs)
    found = []
    for loss in (theirs, ours):
        x, y = vectors().requires_grad_(), vectors(1)
        embeddings = normalize(x) if unit else x
        images = torch.arange(12)
        if "VICReg" in there:
            view = {"ref_emb": y} if loss is theirs else {"references": y, "reference_labels": images}
            value = loss(embeddings, **view) if loss is theirs else loss(embeddings, images, **view)
        elif "CrossBatchMemory" in there:  # three batches, so that the second wraps round and the third meets it full
            value = sum(loss(embeddings[i : i + 4], LABELS[i : i + 4]) for i in (0, 3, 6))
        else:
            value = loss(embeddings, LABELS)
        found.append((value, *torch.autograd.grad(value, x)))
    return found[0], found[1]


def close(theirs: Any, ours: Any) -> bool:
    return all(torch.allclose(a.double(), b, rtol=1e-6, atol=1e-7) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize(("there", "here", "values"), pairs_of(rows("Losses")))
@pytest.mark.filterwarnings("ignore")
def test_values_of_losses(there: str, here: str, values: str) -> None:
    unit = values.startswith("equal for unit vectors")
    assert values.startswith(("equal", "other"))
    assert close(*measured(there, here, unit=True)) == values.startswith("equal")
    if values.startswith("equal"):
        assert close(*measured(there, here, unit=False)) != unit


@pytest.mark.parametrize(("there", "here", "values"), pairs_of(rows("Losses", 1)))
def test_values_around_a_loss(there: str, here: str, values: str) -> None:
    assert values == "equal"
    x, y = vectors(), vectors(1)
    given = {"x": x, "y": y, "labels": LABELS, "images": torch.arange(12)}
    theirs = eval(there, THERE | given | {"loss": their_losses.NTXentLoss()})
    ours = eval(here, HERE | given | {"criterion": Criterion(losses.nt_xent(temperature=0.07))})
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("there", "here", "values"), pairs_of(rows("Distances")))
def test_values_of_distances(there: str, here: str, values: str) -> None:
    x, y = vectors(), vectors(1)
    theirs = eval(there, THERE)(x, y)
    torch.testing.assert_close(getattr(similarities, here)(x, y), -theirs if "minus" in values else theirs)


def mask_of(found: Any) -> Pairs:
    a, p, b, n = found if len(found) == 4 else (found[0], found[1], found[0], found[2])
    pairs = Pairs(*torch.zeros(2, 12, 12, dtype=torch.bool))
    pairs.positive[a, p] = True
    pairs.negative[b, n] = True
    return pairs


@pytest.mark.parametrize(("there", "here", "values"), pairs_of(rows("Miners")))
def test_pairs_of_miners(there: str, here: str, values: str) -> None:
    theirs, ours = eval(there, THERE), eval(here, HERE)
    x, ids = normalize(vectors()), torch.arange(12)
    similar = (
        similarities.cosine
        if theirs.distance.is_inverted or ours.traits.unit_length
        else similarities.negative_euclidean
    )
    rectangle = Rectangle(similar(x, x), make_pairs(LABELS, ids, LABELS, ids), x @ x.mT, similar.__name__, D)
    found, wanted = ours(rectangle), mask_of(theirs(x, LABELS))
    if "HDC" in there:  # of a pair and its reverse, which are as hard
        wanted = Pairs(*(mask | mask.mT for mask in wanted))
    same = all(torch.equal(mask, other) for mask, other in zip(found, wanted, strict=True))
    assert same == values.startswith("equal")


def test_values_of_metrics() -> None:
    table = rows("Testers and accuracies", 1)
    there = {name.removeprefix("calculate_") for name in dir(AccuracyCalculator) if name.startswith("calculate_")}
    assert {names(row[0])[0] for row in table} == there
    x, labels = normalize(vectors(n=90)), torch.cat([torch.arange(88) % 9, torch.tensor([20, 21])])  # two alone
    theirs = AccuracyCalculator(exclude=("AMI", "NMI")).get_accuracy(x, labels)
    ours = pullpush.evaluate(x, labels, nmi=False)
    assert ours.left_out == 2
    equal = {names(row[0])[0]: row[1].strip("`") for row in table if row[2] == "equal"}
    assert {name: theirs[name] for name in equal} == pytest.approx({n: ours.metrics[m] for n, m in equal.items()})
    averages = AccuracyCalculator(avg_of_avgs=True, include=("mean_average_precision_at_r",)).get_accuracy(x, labels)
    wanted = pytest.approx(ours.per_class["map@r"].mean())
    assert averages["mean_average_precision_at_r"] == wanted


def test_what_is_said_of_ties_of_lengths_and_of_large_labels() -> None:
    calculator = AccuracyCalculator(include=("r_precision", "mean_average_precision_at_r", "precision_at_1"))
    ones, sorted_ = torch.ones(40, 8), torch.arange(4).repeat_interleave(10)
    theirs, ours = calculator.get_accuracy(ones, sorted_), pullpush.evaluate(ones, sorted_, nmi=False).metrics
    assert (theirs["r_precision"], theirs["mean_average_precision_at_r"]) == (0.25, 0.25)
    assert (round(ours["r_precision"], 3), round(ours["map@r"], 3)) == (0.231, 0.106)
    x, labels = vectors(n=60) * torch.linspace(1, 4, 60)[:, None], torch.arange(60) % 5
    theirs = calculator.get_accuracy(x, labels)
    of_lengths = pullpush.evaluate(x, labels, nmi=False, similarity="euclidean").metrics
    assert of_lengths["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"])
    assert pullpush.evaluate(x, labels, nmi=False).metrics["map@r"] != pytest.approx(of_lengths["map@r"], abs=1e-3)
    large = 2**24 + torch.tensor([0, 0, 1, 1])
    far = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.1], [-1.0, 0.1]])
    assert calculator.get_accuracy(far, large)["precision_at_1"] == 1
    assert pullpush.evaluate(far, large, nmi=False).metrics["recall@1"] == 0


@pytest.mark.parametrize("title", THEIRS)
def test_no_name_is_left_out_and_none_made_up(title: str) -> None:
    wanted = {name for name in THEIRS[title] if not WITHIN.search(name)}
    found = {name for row in rows(title) for name in names(row[0])}
    if title == "Losses":
        found |= {names(row[0])[0] for row in rows(title, 1)} - {"loss"}
    assert found == wanted


def test_names_outside_of_tables() -> None:
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    for name in ("DistributedLossWrapper", "DistributedMinerWrapper"):
        assert f"`{name}`" in text
        assert hasattr(distributed, name)
    for code in set(re.findall(r"`((?:losses|miners|regularizers|relations)\.[^`]+\))`", text)):
        eval(f"(lambda *given, **named: given)({code})", HERE | {"relations": pullpush.relations})
