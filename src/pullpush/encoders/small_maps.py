"""Depthwise convolutions over maps that are smaller than their kernel, on the CPU."""

from torch import Tensor, is_grad_enabled, nn
from torch.nn.functional import conv2d, pad

__all__ = ["SmallMapConv2d", "quick_on_small_maps"]


class SmallMapConv2d(nn.Conv2d):
    """A depthwise convolution, the same numbers up to rounding, whose weight gradient is quick on small maps.

    oneDNN's gradient of a depthwise weight takes 20 to 50 times as long where the map is smaller than the kernel (5 x 5
    over 4 x 4, 3 x 3 over 2 x 2): most of the backward pass of a small backbone on images of 64 pixels. So where the
    CPU learns, a kernel loses the taps that meet the padding alone, and the map is padded beforehand.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = input.shape[-2:]
        kernel, side = self.kernel_size[0], min(height, width)
        if input.device.type != "cpu" or side >= kernel or not (is_grad_enabled() and weight.requires_grad):
            plain: Tensor = super()._conv_forward(input, weight, bias)
            return plain
        margin = kernel // 2
        idle = max(0, margin + 1 - max(height, width))
        weight = weight[:, :, idle : kernel - idle, idle : kernel - idle]
        return conv2d(pad(input, (margin - idle,) * 4), weight, bias, self.stride, 0, 1, self.groups)


def quick_on_small_maps(module: nn.Module) -> None:
    """Makes the depthwise convolutions in `module` such ones, as far as they pad as much as keeps the size of maps;
    parameters and their names stay."""
    for each in module.modules():
        if type(each) is nn.Conv2d and each.groups == each.in_channels > 1 and each.padding_mode == "zeros":
            kernel, other = each.kernel_size
            if kernel == other and kernel % 2 and each.padding == (kernel // 2,) * 2 and each.dilation == (1, 1):
                each.__class__ = SmallMapConv2d
