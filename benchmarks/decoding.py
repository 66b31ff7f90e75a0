"""Images a second that one thread makes of JPEG files: read, decoded, cropped at random and resized to 224 pixels."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.io import decode_jpeg
from torchvision.transforms.functional import resized_crop

from benchmarks.measure import interleaved, ratio
from trainables import image_folders
from trainables.training.process_memory import keep_freed_memory
from trainables.workloads.decoding import Encoded, Opened, box_of, shown

SIDES = (500, 375)
BYTES = 110_000
"""Smallest size of a file, about the mean of ImageNet's training images (138 GB in 1.28 million)."""

PIXELS, FILES, DRAWS = 224, 8, 40
"""Sides of a crop, files, and crops in one measurement."""

Make = Callable[[int, int], object]
"""Makes a crop of a file's number and a draw."""


def run(repeats: int = 20) -> dict[str, Any]:
    """Measures each way on the same files and the same crops, in a process set up like a worker."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="decoding-") as folder:
        places = list(_files(Path(folder)))
        ways = _ways(places)
        seconds = interleaved({name: partial(_crops, make) for name, make in ways.items()}, repeats)
    return {
        "bytes": [place.size for place in places],
        "images_per_second": {name: DRAWS / float(np.median(values)) for name, values in seconds.items()},
        "ratio": {name: ratio(values, seconds["lawn_tune"]) for name, values in seconds.items() if name != "lawn_tune"},
    }


def _crops(make: Make) -> None:
    for draw in range(DRAWS):
        make(draw % FILES, draw)


def _ways(places: Sequence[image_folders.Image]) -> dict[str, Make]:
    pictures = Encoded(places)

    def ours(index: int, draw: int) -> object:
        return shown(pictures.open(index), draw, PIXELS)

    def torchvision(index: int, draw: int) -> object:
        content = torch.frombuffer(bytearray(places[index].read()), dtype=torch.uint8)
        image: Tensor = decode_jpeg(content)
        (left, upper, right, lower), mirrored = box_of(draw, image.shape[2], image.shape[1])
        box = (int(upper), int(left), int(lower - upper), int(right - left))
        crop: Tensor = resized_crop(image, *box, [PIXELS, PIXELS], antialias=True)
        return crop.flip(-1) if mirrored else crop

    ways: dict[str, Make] = {"lawn_tune": ours, "torchvision": torchvision}
    if find_spec("simplejpeg"):
        simplejpeg = import_module("simplejpeg")

        def turbo(index: int, draw: int) -> object:
            image = Image.fromarray(simplejpeg.decode_jpeg(places[index].read()))
            return shown(Opened(image, *image.size), draw, PIXELS)

        ways["simplejpeg, resized by Pillow"] = turbo
    return ways


def _files(folder: Path) -> Iterator[image_folders.Image]:
    """Yields files of blurred noise, encoded at the lowest quality that gives `BYTES`."""
    random = np.random.default_rng(0)
    for i in range(FILES):
        content = _encoded(random)
        path = folder / f"{i}.jpeg"
        path.write_bytes(content)
        yield image_folders.Image(str(path), 0, len(content), path.name)


def _encoded(random: np.random.Generator) -> bytes:
    noise = Image.fromarray(random.integers(0, 256, (SIDES[1], SIDES[0], 3), dtype=np.uint8))
    pixels: NDArray[np.uint8] = np.asarray(noise.filter(ImageFilter.GaussianBlur(1.5)))
    image = Image.fromarray(np.clip(4.0 * (pixels - 128.0) + 128.0, 0, 255).astype(np.uint8))
    content = b""
    for quality in range(50, 100, 2):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
        if len(content) >= BYTES:
            break
    return content
