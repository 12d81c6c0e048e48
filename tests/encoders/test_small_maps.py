"""Depthwise convolutions on maps smaller than their kernel: the same values and gradients."""

import copy

import pytest
import timm
import torch
from torch import nn

from pullpush.encoders import ImageEncoder
from pullpush.encoders.small_maps import SmallMapConv2d, quick_on_small_maps


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 4), (2, 6), (6, 2), (8, 8)])
def test_values_and_gradients_are_the_same(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 12, kernel, stride, kernel // 2, groups=6).double()
    quick = copy.deepcopy(plain)
    quick_on_small_maps(quick)
    assert type(quick) is SmallMapConv2d
    results = []
    for conv in (plain, quick):
        x = torch.randn(3, 6, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
        y = conv(x)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        results.append((y, x.grad, conv.weight.grad, conv.bias.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1),  # not depthwise
        nn.Conv2d(4, 4, 3, groups=4),  # maps become smaller
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, (3, 5), padding=(1, 2), groups=4),
    ],
)
def test_other_convolutions_stay_what_they_are(conv: nn.Conv2d) -> None:
    quick_on_small_maps(conv)
    assert type(conv) is nn.Conv2d


def test_an_encoder_has_them_and_its_tensors_keep_their_names() -> None:
    encoder = ImageEncoder("test_efficientnet", weights="none", size=32)
    assert any(isinstance(module, SmallMapConv2d) for module in encoder.modules())
    plain = timm.create_model("test_efficientnet", num_classes=0)
    assert list(encoder.backbone.state_dict()) == list(plain.state_dict())
