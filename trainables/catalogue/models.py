"""Models, one row each, with the size that follows from their options and a data set's shape."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import Footprint, Model, Option, Shape, Value


def _vgg(options: Mapping[str, Value], shape: Shape) -> Footprint:
    channels, width, side = shape["channels"], int(options["width"]), shape["pixels"]
    weights, floats = 0, channels * side * side
    while side >= 4:
        weights += 9 * channels * width + 2 * width
        floats += width * side * side
        channels, width, side = width, 2 * width, side // 2
    weights += (channels * side * side + 1) * shape["classes"]
    return Footprint(weights=weights, floats=floats, evaluated=256, kept=(7, 10))


def _ncf(options: Mapping[str, Value], shape: Shape) -> Footprint:
    f = int(options["factors"])
    weights = 2 * f * (shape["users"] + shape["items"]) + (4 * f + 1) * 2 * f + (2 * f + 1) * f + f + 1
    return Footprint(weights=weights, floats=3 * f + 1, evaluated=25_600, kept=(5, 10))


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
            name="ncf",
            label="NCF",
            data="interactions",
            build="trainables.models.ncf:build",
            options=(
                Option(name="factors", default=64),  # width of the last hidden layer
                Option(name="init", default="normal-0.01", choices=("normal-0.01", "xavier")),
            ),
            footprint=_ncf,
        ),
    )
}
