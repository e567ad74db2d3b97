"""The student: a U-Net of 0.4 M parameters on an image of 128 pixels.

Only the functions of this package that train or apply the student import this module, because it
imports torch. The first layer works on 2 x 2 pixels at a time and the last gives 2 x 2 pixels per
place, which makes it four times as fast as a U-Net at full resolution.

Sources: Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015; Shi et al., "Real-time single image and video super-resolution using an efficient
sub-pixel convolutional neural network", CVPR 2016 (the first and last layer).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsgssl.masks.recipes.distilled.pixels import CHANNELS

WIDTHS = (16, 36, 60, 88)


class Student(nn.Module):
    """Logits of the lung at every pixel.

    Args:
        widths: Channels at 1/2, 1/4, 1/8 and 1/16 of the input size.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        channels = 4 * CHANNELS
        for width in widths:
            self.down.append(_double(channels, width))
            channels = width
        self.up = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(_double(channels + width, width))
            channels = width
        self.head = nn.Conv2d(channels, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: float32 ``(B, CHANNELS, H, W)`` of `pixels.student_input`; ``H`` and ``W`` are
                multiples of 16.

        Returns:
            float32 ``(B, 1, H, W)``.
        """
        x = nn.functional.pixel_unshuffle(images, 2)
        skips: list[Tensor] = []
        for number, block in enumerate(self.down):
            if number:
                x = nn.functional.max_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skip], dim=1))
        return nn.functional.pixel_shuffle(self.head(x), 2)


def _double(channels: int, width: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def fused(student: Student) -> Student:
    """Return an inference copy whose batch normalizations are folded into the convolutions."""
    copy = Student(tuple(block[0].out_channels for block in student.down))  # type: ignore[index]
    copy.load_state_dict(student.state_dict())
    copy.eval()
    for blocks in (copy.down, copy.up):
        for number, block in enumerate(blocks):
            assert isinstance(block, nn.Sequential)
            first, second = (_fused_pair(block[i], block[i + 1]) for i in (0, 3))
            blocks[number] = nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True))
    return copy.to(memory_format=torch.channels_last)


def _fused_pair(convolution: nn.Module, normalization: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(normalization, nn.BatchNorm2d)
    return nn.utils.fusion.fuse_conv_bn_eval(convolution, normalization)
