"""docs/from-sentence-transformers.md beside the library: its loop, its values, and that no name is left out."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pullpush import losses, miners, regularizers
from pullpush.criterion import Criterion
from tests.support.pages import blocks, names, printed, section, tables
from tests.support.tiny_models import tiny_bert

pytest.importorskip("sentence_transformers")
from sentence_transformers import evaluation
from sentence_transformers import losses as their_losses
from sentence_transformers.util import dot_score

PAGE = "from-sentence-transformers.md"
ROWS, DIM = 8, 6


class Given(torch.nn.Module):
    """A model whose input are the embeddings."""

    def get_embedding_dimension(self) -> int:
        return DIM

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": features["x"]}


def vectors(seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, DIM, generator=g, dtype=torch.float64).requires_grad_()


def test_the_two_loops_print_the_same(tmp_path: Path) -> None:
    both, there, here = blocks(section(PAGE, "The same loop"))
    small = both.replace('"all-MiniLM-L6-v2"', repr(tiny_bert(tmp_path / "model")))
    assert small != both
    small += "model.double()\n"
    *theirs, wanted = printed(small, there)
    *found, metrics = printed(small, here)
    assert len(found) == len(theirs) == 9
    torch.testing.assert_close(torch.tensor(found), torch.tensor(theirs), rtol=1e-6, atol=0)
    assert theirs[-1] < theirs[0]
    assert metrics == pytest.approx((wanted[0]["cosine_accuracy@1"], wanted[0]["cosine_mrr@12"]))


TABLE = tables(section(PAGE, "Losses"))[0]


@pytest.mark.parametrize(
    ("there", "here", "values"),
    [pytest.param(a.strip("`"), b.strip("`"), c, id=a.strip("`")) for a, b, c in TABLE if not b.startswith("-")],
)
def test_values_of_losses(there: str, here: str, values: str) -> None:
    theirs = eval(there, vars(their_losses) | {"model": Given(), "dot_score": dot_score})
    ours = eval(f"Criterion({here})", {"Criterion": Criterion, "losses": losses})
    x, y, numbers = vectors(0), vectors(1), torch.arange(ROWS)
    if there.startswith("Batch"):
        wanted, found = theirs([{"x": x}], numbers // 2), ours(x, numbers // 2)
    else:
        wanted = theirs([{"x": x}, {"x": y}], None)
        found = ours(x, numbers, references=y, reference_labels=numbers)
    pairs = [(wanted, found), (torch.autograd.grad(wanted, x)[0], torch.autograd.grad(found, x)[0])]
    same = all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in pairs)
    assert same == values.startswith("equal")
    assert values.startswith(("equal", "other"))


def test_a_column_of_hard_negatives() -> None:
    x, y, z = (vectors(seed) for seed in range(3))
    numbers = torch.arange(ROWS)
    call = "criterion(x, numbers, references=torch.cat([y, z]), reference_labels=torch.cat([numbers, -1 - numbers]))"
    assert call in section(PAGE, "Losses")
    criterion = Criterion(losses.nt_xent(temperature=0.05))
    found = eval(call, {"criterion": criterion, "x": x, "y": y, "z": z, "numbers": numbers, "torch": torch})
    wanted = their_losses.MultipleNegativesRankingLoss(Given())([{"x": x}, {"x": y}, {"x": z}], None)
    torch.testing.assert_close(found, wanted)


def test_no_name_is_left_out_and_none_made_up() -> None:
    wanted = {name for name in their_losses.__all__ if name.endswith("Loss") or name.endswith("InBatchNegatives")}
    assert {name for row in TABLE for name in names(row[0])} == wanted
    evaluators = {name for name in dir(evaluation) if "Evaluator" in name} - {"BaseEvaluator", "SentenceEvaluator"}
    assert {name for row in tables(section(PAGE, "Evaluators"))[0] for name in names(row[0])} == evaluators


def test_codes_of_the_right_column() -> None:
    known: dict[str, Any] = {"losses": losses, "miners": miners, "regularizers": regularizers}
    for code in set(re.findall(r"`((?:losses|miners|regularizers)\.[^`]+\))`", section(PAGE, "Losses"))):
        eval(f"(lambda *given, **named: given)({code})", known)
