"""What a type checker takes and refuses; `make check` runs it over this file, in which each `ignore` must be needed."""

# mypy: warn-unused-ignores

from torch import Tensor

from pullpush import Criterion, losses, miners, relations, similarities
from pullpush.maths.choice import Loss, Miner
from pullpush.maths.rectangle import AnchorLoss, Rectangle


def mine(rectangle: Rectangle, *, power: float = 2.0) -> AnchorLoss:
    """A loss of a person's own."""
    each: Tensor = rectangle.similarity.abs() ** power
    return AnchorLoss(each.sum(1), each.sum(1))


circle: Loss = losses.circle(margin=0.4, per="batch")
hardest: Miner = miners.hardest()
Criterion(circle, miner=miners.multi_similarity(epsilon=0.2), relation=relations.same_ancestor(level=1))
Criterion(mine, similarity=similarities.dot, power=3.0)
Criterion("circle", margin=0.4)

losses.circle(margn=0.4)  # type: ignore[call-arg]
losses.circle(margin="wide")  # type: ignore[arg-type]
losses.circle(per="row")  # type: ignore[arg-type]
losses.cicrle()  # type: ignore[attr-defined]
Criterion(hardest)  # type: ignore[arg-type]
Criterion(circle, miner=circle)  # type: ignore[arg-type]
