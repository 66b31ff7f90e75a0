"""VGG-19, and a small VGG for images of 8 to 32 pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.catalogue.models import VGG_19


class SmallVgg(nn.Module):
    """Stages of a 3x3 convolution, BatchNorm, ReLU and 2x2 max-pooling, then one fully connected layer.

    Stages are added while pooling leaves at least 2 pixels (8x8: two, 28x28: three), and each doubles the
    width. Convolutions have no bias, as BatchNorm would cancel it. Kernels start from N(0, 2/(9·width)), the fully
    connected layer from N(0, 0.01²) with bias 0 (the usual VGG initialization; our choice).

    Args:
        channels: of the images, 1 to 3.
        size: height and width of the images, pixels.
        classes: number of logits.
        width: channels of the first stage.
    """

    final_layers: tuple[str, ...] = ("classifier.weight",)
    """The last homogeneous sub-network: only the fully connected layer, as BatchNorm's shift breaks homogeneity."""

    def __init__(self, *, channels: int, size: int, classes: int, width: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        while size >= 4:
            stages += [_stage(channels, width), MaxPool()]
            channels, width, size = width, 2 * width, size // 2
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels * size * size, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [B, classes] of images [B, channels, size, size]."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def build(*, channels: int, pixels: int, classes: int, width: int) -> SmallVgg:
    """Returns a small VGG for a data set's shape and the options of its row."""
    return SmallVgg(channels=channels, size=pixels, classes=classes, width=width)


class Vgg19(nn.Module):
    """Stages of 2, 2, 4, 4 and 4 convolutions with BatchNorm and ReLU, each pooled, then one fully connected layer.

    VGG-19 of Simonyan and Zisserman 2014 with "1 fully connected final layer" (paper §4.2) of `8·width` features; with
    3 channels, 10 classes and width 64 it has 20,035,018 weights. Convolutions have no bias, as BatchNorm would cancel
    it. It starts as `SmallVgg` does (our choice). An image of fewer than 32 pixels is not pooled below 1 pixel; of what
    pooling leaves of one of 64 and more the mean is taken.

    Args:
        channels: of the images.
        size: height and width of the images, pixels.
        classes: number of logits.
        width: channels of the first stage; 64 in the paper.
    """

    final_layers: tuple[str, ...] = ("classifier.weight",)
    """As in `SmallVgg`."""

    def __init__(self, *, channels: int, size: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for convolutions, factor in VGG_19:
            for _ in range(convolutions):
                layers.append(_stage(channels, factor * width))
                channels = factor * width
            if size >= 2:
                layers.append(MaxPool())
                size //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [B, classes] of images [B, channels, size, size]."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(-2, -1)))
        return logits


def build_19(*, channels: int, pixels: int, classes: int, width: int) -> Vgg19:
    """Returns a VGG-19 for a data set's shape and the options of its row."""
    return Vgg19(channels=channels, size=pixels, classes=classes, width=width)


class MaxPool(nn.Module):
    """2x2 max-pooling that drops the last row and column of odd sizes.

    In evaluation it takes maxima of shifted views: the same values, two to three times as fast on a CPU.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Returns [B, C, H // 2, W // 2] of images [B, C, H, W]."""
        if self.training:
            return F.max_pool2d(images, 2)
        height, width = (side // 2 * 2 for side in images.shape[-2:])
        rows = torch.maximum(images[..., 0:height:2, :width], images[..., 1:height:2, :width])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _stage(channels: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    with torch.no_grad():
        convolution.weight.normal_(std=math.sqrt(2 / (9 * width)))
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
