"""Images from files to batches: decoded, cropped and resized by Pillow, on threads, a few batches ahead."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor

from trainables import image_folders
from trainables.data import DataError
from trainables.tasks import AHEAD

WHOLE = -1
"""The draw of an image that is measured: no crop, no flip."""

CENTER = 7 / 8
"""Share of the shorter side of the square that is measured: 224 of 256 pixels."""

SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""Share of the area and aspect of random crops, and tries to fit one (Szegedy et al. 2015; torchvision's values)."""

TOGETHER = 8
"""Images that a thread takes at a time."""

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, pixels."""


class Opened(NamedTuple):
    """A decoded RGB image, and the width and height that it had in its file."""

    image: pillow.Image
    width: int
    height: int


class Pictures(Protocol):
    """Images by number."""

    def open(self, index: int) -> Opened:
        """Returns an image.

        Raises:
            DataError: it cannot be read or decoded.
        """
        ...


class Encoded:
    """Images as files encode them. Other colors than RGB become RGB; orientation tags are ignored."""

    def __init__(self, places: Sequence[image_folders.Image]) -> None:
        self._places = places

    def open(self, index: int) -> Opened:
        """See `Pictures.open`."""
        place = self._places[index]
        try:
            with pillow.open(io.BytesIO(place.read())) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
                image.load()
                return Opened(image if image.mode == "RGB" else image.convert("RGB"), *image.size)
        except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{place.shown} cannot be decoded: {reason}. Restore or remove it.") from None


def box_of(draw: int, width: int, height: int) -> tuple[Box, bool]:
    """Returns what of an image is shown, and whether mirrored.

    Args:
        draw: `WHOLE`, or the seed of a random crop: of `SCALE` of the area and of `RATIO`, or else the largest center
            of these aspects; mirrored with probability 1/2.
    """
    if draw == WHOLE:
        side = CENTER * min(width, height)
        return _center(width, height, side, side), False
    random = np.random.Generator(np.random.Philox(key=draw))
    for _ in range(TRIES):
        area = width * height * random.uniform(*SCALE)
        aspect = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return (left, upper, left + w, upper + h), bool(random.integers(2))
    aspect = min(max(width / height, RATIO[0]), RATIO[1])
    box = _center(width, height, min(width, height * aspect), min(height, width / aspect))
    return box, bool(random.integers(2))


def _center(width: int, height: int, w: float, h: float) -> Box:
    left, upper = (width - w) / 2, (height - h) / 2
    return left, upper, left + w, upper + h


def shown(opened: Opened, draw: int, pixels: int) -> NDArray[np.uint8]:
    """Returns the crop of an image that a draw names, by antialiased bilinear interpolation, [pixels, pixels, 3]."""
    (left, upper, right, lower), mirrored = box_of(draw, opened.width, opened.height)
    x, y = opened.image.width / opened.width, opened.image.height / opened.height
    box = (left * x, upper * y, right * x, lower * y)
    found = np.asarray(opened.image.resize((pixels, pixels), pillow.Resampling.BILINEAR, box=box))
    return found[:, ::-1] if mirrored else found


class Decoder:
    """Decodes on threads, which need no memory that processes share; Pillow lets go of Python's lock meanwhile.

    A crop follows from its draw alone, so the number of threads changes no bit.

    Args:
        pictures: where images come from.
        pixels: sides of what they become.
        threads: that decode at once.
        pinned: whether the memory is such that a GPU copies from it while it computes.
    """

    def __init__(self, pictures: Pictures, pixels: int, *, threads: int, pinned: bool) -> None:
        self._pictures, self._pixels, self._pinned = pictures, pixels, pinned
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def batches(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """Yields crops, uint8 [..., pixels, pixels, 3] on the host, for each pair of indices and draws [...] in order.

        Raises:
            DataError: an image cannot be decoded.
        """
        begun: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for part in parts:
                begun.append(self._begin(*part))
                if len(begun) > AHEAD:
                    yield _finished(*begun.popleft())
            while begun:
                yield _finished(*begun.popleft())
        finally:
            for future in [future for _, futures in begun for future in futures]:
                future.cancel()

    def _begin(self, index: Tensor, draw: Tensor) -> tuple[Tensor, list[Future[None]]]:
        images = torch.empty(*index.shape, self._pixels, self._pixels, 3, dtype=torch.uint8, pin_memory=self._pinned)
        flat = images.view(-1, self._pixels, self._pixels, 3).numpy()
        wanted = list(zip(index.flatten().tolist(), draw.flatten().tolist(), strict=True))
        starts = range(0, len(wanted), TOGETHER)
        return images, [self._pool.submit(self._fill, flat[i:], wanted[i : i + TOGETHER]) for i in starts]

    def _fill(self, images: NDArray[np.uint8], wanted: Sequence[tuple[int, int]]) -> None:
        for image, (index, draw) in zip(images, wanted, strict=False):
            image[:] = shown(self._pictures.open(index), draw, self._pixels)


def _finished(images: Tensor, futures: Iterable[Future[None]]) -> Tensor:
    for future in futures:
        future.result()
    return images
