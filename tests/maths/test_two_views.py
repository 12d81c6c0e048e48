"""Learning without labels is nothing special: the number of the image is the label, and each view has its own id."""

from math import exp, log

import pytest
import torch

from pullpush.criterion import Criterion


def simclr(x, y, temperature):
    """Chen et al. 2020, eq. 1: row 2k and 2k + 1 of the joined batch are views of one image."""
    z = [v for pair in zip(x, y, strict=True) for v in pair]
    s = [[sum(a * b for a, b in zip(u, v, strict=True)) / temperature for v in z] for u in z]
    losses = [-log(exp(s[i][i ^ 1]) / sum(exp(s[i][k]) for k in range(len(z)) if k != i)) for i in range(len(z))]
    return sum(losses) / len(losses)


def test_two_views_of_each_image():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(5, 4, generator=g, dtype=torch.float64)) for _ in range(2))
    images = torch.arange(5)
    criterion = Criterion("nt_xent", temperature=0.5).double()
    loss = criterion(torch.cat([x, y]), torch.cat([images, images]))
    assert loss.item() == pytest.approx(simclr(x.tolist(), y.tolist(), 0.5))
