"""Small data sets in the exact formats of the real ones."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.rows import DataFile, Dataset
from trainables.data import content_sha256


def idx(values: bytes, *shape: int) -> bytes:
    """The IDX format: two zero bytes, 8 for unsigned bytes, the number of dimensions, the dimensions, the values."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values


def write_fashion_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for stem, count in (("train", 200), ("t10k", 300)):
        labels = bytes(i % 10 for i in range(count))
        pixels = b"".join(bytes(draw.choices(range(20 * label + 60), k=28 * 28)) for label in labels)
        for kind, content in (("images-idx3", idx(pixels, count, 28, 28)), ("labels-idx1", idx(labels, count))):
            (folder / f"{stem}-{kind}-ubyte").write_bytes(content)
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, 1))


def write_movielens(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(0)
    rows = [
        (user, item, draw.randint(1, 5), draw.randint(0, 9))
        for user in range(1, 91)
        for item in draw.sample(range(1, 151), draw.randint(1, 40))
    ]
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


@contextmanager
def published(folder: Path) -> Iterator[None]:
    """Makes the files that a data folder has the published ones, as all others are refused."""

    def known(file: DataFile) -> DataFile:
        path = folder / file.path
        return replace(file, sha256=content_sha256(file, path.read_bytes())) if path.is_file() else file

    with pytest.MonkeyPatch.context() as patch:
        for name, row in DATASETS.items():
            files = tuple(map(known, row.files))
            patch.setitem(cast(dict[str, Dataset], DATASETS), name, replace(row, files=files))
        yield
