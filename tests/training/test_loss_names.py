"""Every loss and every miner, named as on the command line, becomes a criterion that trains."""

import pytest
import torch

from pullpush import losses, miners
from pullpush.errors import UserError
from pullpush.runs.options import options_of, parse
from pullpush.signatures import of
from pullpush.training.criteria import make_criteria

CLASSES, DIM = 4, 8


def gradient(*words: str) -> torch.Tensor:
    config = parse([*words, f"--encoder.dim={DIM}"])
    torch.manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(16, DIM)).requires_grad_()
    labels, ids = torch.arange(16) % CLASSES, torch.arange(16)
    make_criteria(config, CLASSES, ids)[0](x, labels, ids).backward()
    return x.grad


def shown(kind: str, loss: str, miner: str) -> set[str]:
    """Options of the loss or the miner."""
    return {name.removeprefix(f"{kind}.") for name in options_of(loss, miner, "emoji") if name.startswith(f"{kind}.")}


@pytest.mark.parametrize("name", losses.__all__)
def test_every_loss_trains_with_the_options_it_shows(name):
    options = of(getattr(losses, name)).options
    assert shown("loss", name, "none") == {"name", *options}
    typed = {k: list(o.default) if isinstance(o.default, tuple) else o.default for k, o in options.items()}
    found = gradient("--loss", name, *(f"--loss.{k}={default}" for k, default in typed.items()))
    assert found.isfinite().all()
    assert found.abs().sum() > 0
    assert torch.equal(found, gradient("--loss", name))


@pytest.mark.parametrize("name", miners.__all__)
def test_every_miner_mines_with_the_options_it_shows(name):
    assert shown("miner", "margin", name) == {"name", *of(getattr(miners, name)).options}
    found = gradient("--loss", "contrastive", "--loss.negative_margin=-1", "--miner", name)
    assert found.abs().sum() > 0
    assert (name == "pair_margin") == torch.equal(
        found, gradient("--loss", "contrastive", "--loss.negative_margin=0.2")
    )


def test_what_the_criterion_gives_to_miners_is_no_option():
    with pytest.raises(UserError, match=r"unknown option --miner\.dim"):
        parse(["--loss=margin", "--miner=distance_weighted", "--miner.dim=64"])
