"""ResNet-50 for images of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainables.catalogue.models import EXPANSION, RESNET_50


class ResNet50(nn.Module):
    """A 7x7 convolution and a 3x3 max-pooling, each of stride 2, four stages of blocks, the mean, and one full layer.

    The first block of each stage but the first halves the image in its 3x3 convolution (version 1.5; He et al.
    2015 do so in the 1x1 before). Convolutions have no bias. Kernels start from N(0, 2/(k²·out)), the fully connected
    layer from N(0, 0.01²) with bias 0 (Goyal et al. 2018).

    Args:
        channels: of the images.
        classes: number of logits.
        width: channels of the first stage's 3x3 convolutions; each stage doubles them.
        zero_init: whether the last BatchNorm of each block starts with a scale of 0, so that every block starts as its
            shortcut (Goyal et al. 2018).
    """

    final_layers: tuple[str, ...] = ("classifier.weight",)
    """The last homogeneous sub-network: only the fully connected layer, as BatchNorm's shift breaks homogeneity."""

    def __init__(self, *, channels: int, classes: int, width: int, zero_init: bool) -> None:
        super().__init__()
        layers = [*_normalized(channels, width, kernel=7, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        channels = width
        for stage, blocks in enumerate(RESNET_50):
            for block in range(blocks):
                inner = width * 2**stage
                layers.append(Block(channels, inner, 2 if stage and not block else 1, zero_init=zero_init))
                channels = EXPANSION * inner
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [B, classes] of images [B, channels, H, W]."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(-2, -1)))
        return logits


class Block(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1 pixels, added to the input or, where the size changes, to its 1x1 convolution.

    Args:
        channels: of the input.
        inner: of the 3x3 convolution; the output has `EXPANSION` times as many.
        stride: of the 3x3 convolution.
        zero_init: see `ResNet50`.
    """

    def __init__(self, channels: int, inner: int, stride: int, *, zero_init: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_normalized(channels, inner),
            nn.ReLU(),
            *_normalized(inner, inner, kernel=3, stride=stride),
            nn.ReLU(),
            *_normalized(inner, EXPANSION * inner),
        )
        same = stride == 1 and channels == EXPANSION * inner
        self.shortcut = nn.Sequential(*([] if same else _normalized(channels, EXPANSION * inner, stride=stride)))
        if zero_init:
            nn.init.constant_(self.branch.get_parameter(f"{len(self.branch) - 1}.weight"), 0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Returns [B, EXPANSION·inner, H/stride, W/stride] of images [B, channels, H, W]."""
        total: Tensor = self.branch(images) + self.shortcut(images)
        return total.relu()


def build(*, channels: int, pixels: int, classes: int, width: int, zero_init: bool) -> ResNet50:
    """Returns a ResNet-50 for a data set's shape and the options of its row; images of any number of pixels fit."""
    return ResNet50(channels=channels, classes=classes, width=width, zero_init=zero_init)


def _normalized(channels: int, out: int, *, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    """Returns a convolution without bias, and its BatchNorm."""
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    with torch.no_grad():
        convolution.weight.normal_(std=math.sqrt(2 / (kernel**2 * out)))
    return [convolution, nn.BatchNorm2d(out)]
