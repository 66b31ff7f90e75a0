"""A cache on disk: every image of a folder, resized once to a square of bytes, mapped into memory."""

from __future__ import annotations

import fcntl
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image as pillow

from trainables.data import DataError
from trainables.workloads.decoding import Opened, Pictures

TOGETHER = 1024
"""Images that the threads building a cache are given at a time."""


class Resized:
    """Images of a cache. Each is the whole image, whatever its aspect, so crops are drawn as if it were not resized.

    The first process that needs it builds it, in a draft that is renamed once it is whole, so what has the name is.
    The name says of which files and of which size it is; each image has a checksum, compared when it is read.

    Args:
        file: its place.
        records: width, height, checksum and pixels of each image.
    """

    def __init__(self, file: Path, records: NDArray[np.void]) -> None:
        self._file, self._records = file, records

    @staticmethod
    def of(folder: Path, pictures: Pictures, count: int, side: int, digest: str) -> Resized:
        """Returns the cache of a folder, which is built if there is none.

        Args:
            folder: where it is, besides the images.
            pictures: the images.
            count: their number.
            side: of the squares, pixels.
            digest: of the images.

        Raises:
            DataError: it cannot be written or read; or an image cannot be decoded.
        """
        file = folder / f".resized-{side}-{digest[:16]}.npy"
        record = np.dtype([("width", "<i4"), ("height", "<i4"), ("checksum", "<u4"), ("pixels", "u1", (side, side, 3))])
        try:
            with file.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not file.exists():
                    _build(file, pictures, count, record)
            records = np.load(file, mmap_mode="r")
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"the cache {file} cannot be used: {error}. Remove it, or make room for it.") from None
        if records.dtype != record or records.shape != (count,):
            raise DataError(f"the cache {file} is not one of these images. Remove it, so that it is built again.")
        return Resized(file, records)

    def open(self, index: int) -> Opened:
        """See `Pictures.open`."""
        width, height, checksum, pixels = self._records[index]
        if zlib.crc32(pixels.tobytes()) != checksum:
            raise DataError(
                f"the cache {self._file} is damaged at image {index}. Remove it, so that it is built again."
            )
        return Opened(pillow.fromarray(pixels), int(width), int(height))


def _build(file: Path, pictures: Pictures, count: int, record: np.dtype[np.void]) -> None:
    draft = file.with_suffix(f".{os.getpid()}.draft")
    side = record["pixels"].shape[0]

    def add(index: int) -> None:
        opened = pictures.open(index)
        pixels = np.asarray(opened.image.resize((side, side), pillow.Resampling.BILINEAR))
        records[index] = (opened.width, opened.height, zlib.crc32(pixels.tobytes()), pixels)

    try:
        records = open_memmap(draft, mode="w+", dtype=record, shape=(count,))
        with draft.open("r+b") as opened:  # a full disk is an error now, where a page without room ends the process
            os.posix_fallocate(opened.fileno(), 0, draft.stat().st_size)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in range(0, count, TOGETHER):
                list(pool.map(add, range(start, min(start + TOGETHER, count))))
        records.flush()
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
