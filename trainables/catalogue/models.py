"""Models, one row each, with the size that follows from their options and a data set's shape."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import Model, Option, Shape, Value
from trainables.catalogue.sizes import Footprint

VGG_19 = ((2, 1), (2, 2), (4, 4), (4, 8), (4, 8))
"""Convolutions of each stage of VGG-19, and their channels in widths of the first."""

RESNET_50 = (3, 4, 6, 3)
"""Blocks of each stage of ResNet-50 (He et al. 2015, table 1)."""

EXPANSION = 4
"""Channels that such a block puts out for each one of its 3x3 convolution."""


def _vgg(options: Mapping[str, Value], shape: Shape) -> Footprint:
    channels, width, side = shape["channels"], int(options["width"]), shape["pixels"]
    weights, floats, work = 0, channels * side * side, 0
    while side >= 4:
        weights += 9 * channels * width + 2 * width
        work += 9 * channels * width * side * side
        floats += width * side * side
        channels, width, side = width, 2 * width, side // 2
    last = channels * side * side * shape["classes"]
    weights += last + shape["classes"]
    return Footprint(weights=weights, floats=floats, work=work + last, evaluated=256, kept=(7, 10))


def _vgg_19(options: Mapping[str, Value], shape: Shape) -> Footprint:
    channels, side = shape["channels"], shape["pixels"]
    weights, layers, work = 0, [channels * side * side], 0
    for convolutions, factor in VGG_19:
        width = factor * int(options["width"])
        for _ in range(convolutions):
            weights += 9 * channels * width + 2 * width
            layers.append(width * side * side)
            work += 9 * channels * layers[-1]
            channels = width
        side = max(side // 2, 1)
    last = channels * shape["classes"]
    weights += last + shape["classes"]
    return Footprint(weights=weights, floats=sum(layers), work=work + last, largest=max(layers), kept=(4, 8))


def _resnet_50(options: Mapping[str, Value], shape: Shape) -> Footprint:
    weights, layers, work, width = 0, [], 0, int(options["width"])

    def convolution(channels: int, out: int, kernel: int, side: int) -> None:
        nonlocal weights, work
        weights += kernel**2 * channels * out + 2 * out
        layers.append(out * side * side)
        work += kernel**2 * channels * layers[-1]

    side = -(-shape["pixels"] // 2)
    convolution(shape["channels"], width, 7, side)
    channels, side = width, -(-side // 2)
    for stage, blocks in enumerate(RESNET_50):
        for block in range(blocks):
            inner = width * 2**stage
            convolution(channels, inner, 1, side)
            side = -(-side // 2) if stage and not block else side
            convolution(inner, inner, 3, side)
            convolution(inner, EXPANSION * inner, 1, side)
            if not block:
                convolution(channels, EXPANSION * inner, 1, side)
            channels = EXPANSION * inner
    last = channels * shape["classes"]
    weights += last + shape["classes"]
    return Footprint(weights=weights, floats=sum(layers), work=work + last, largest=max(layers), kept=(4, 8))


def _ncf(options: Mapping[str, Value], shape: Shape) -> Footprint:
    f = int(options["factors"])
    work = 4 * f * 2 * f + 2 * f * f + f
    weights = 2 * f * (shape["users"] + shape["items"]) + work + 2 * f + f + 1
    return Footprint(weights=weights, floats=3 * f + 1, work=work, evaluated=25_600, kept=(5, 10))


MODELS: Mapping[str, Model] = {
    row.name: row
    for row in (
        Model(
            name="small-vgg",
            label="small VGG",
            data="images",
            build="trainables.models.vgg:build",
            options=(Option(name="width", default=16),),  # channels of the first stage; each stage doubles them
            footprint=_vgg,
        ),
        Model(
            name="vgg-19",
            label="VGG-19",
            data="images",
            build="trainables.models.vgg:build_19",
            options=(Option(name="width", default=64),),  # channels of the first stage, the paper's
            footprint=_vgg_19,
            largest_pack=1,
        ),
        Model(
            name="resnet-50",
            label="ResNet-50",
            data="images",
            build="trainables.models.resnet:build",
            options=(
                Option(name="width", default=64),  # channels of the first stage's 3x3 convolutions
                Option(name="zero_init", default=False),  # whether each block starts as its shortcut
            ),
            footprint=_resnet_50,
            largest_pack=1,
        ),
        Model(
            name="ncf",
            label="NCF",
            data="interactions",
            build="trainables.models.ncf:build",
            options=(
                Option(name="factors", default=64),  # width of the last hidden layer
                Option(name="init", default="normal-0.01", choices=("normal-0.01", "xavier")),
            ),
            footprint=_ncf,
            largest_pack=64,
        ),
    )
}
