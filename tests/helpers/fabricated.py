"""Small data sets in the exact formats of the real ones."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from trainables import image_folders
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


def cifar_pixels(count: int, classes: int, draw: random.Random) -> tuple[list[int], bytes]:
    """Classes, and images of 3 x 32 x 32 bytes that are brighter in a higher class."""
    labels = [i % classes for i in range(count)]
    scales = [bytes(value * (50 + 200 * label // classes) // 256 for value in range(256)) for label in range(classes)]
    return labels, b"".join(draw.randbytes(3072).translate(scales[label]) for label in labels)


def cifar_records(labels: Sequence[int], pixels: bytes, classes: int) -> bytes:
    """The binary version: one byte for the class before each image, with 100 classes after one for its superclass."""
    images = (pixels[i * 3072 : (i + 1) * 3072] for i in range(len(labels)))
    heads = (bytes([label]) if classes == 10 else bytes([label // 5, label]) for label in labels)
    return b"".join(head + image for head, image in zip(heads, images, strict=True))


def cifar_pickle(labels: Sequence[int], pixels: bytes, classes: int, fortran: bool = False) -> bytes:
    """The python version, as Python 2 wrote it: strings of bytes, and an array of numpy 1."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def whole(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    byte_type = (
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + 2 * whole(-1) + b"K\x00tb"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    if fortran:
        pixels = b"".join(pixels[i::3072] for i in range(3072))
    content = b"T" + struct.pack("<I", len(pixels)) + pixels
    state = (
        b"(K\x01"
        + whole(len(labels))
        + whole(3072)
        + b"\x86"
        + byte_type
        + (b"\x88" if fortran else b"\x89")
        + content
        + b"t"
    )
    names = b"labels" if classes == 10 else b"fine_labels"
    parts = (
        text(b"batch_label") + text(b"training batch 1 of 5"),
        text(names) + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
        text(b"data") + empty + state + b"b",
    )
    return b"\x80\x02}(" + b"".join(parts) + b"u."


def write_cifar(folder: Path) -> None:
    """Both versions of both data sets, with the same images in the same order."""
    draw = random.Random(3)
    for classes, stems, sizes in (
        (10, [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], [40] * 5 + [100]),
        (100, ["train", "test"], [200, 100]),
    ):
        places = (
            ("cifar-10-batches-bin", "cifar-10-batches-py")
            if classes == 10
            else ("cifar-100-binary", "cifar-100-python")
        )
        for place in places:
            (folder / place).mkdir(parents=True)
        for stem, size in zip(stems, sizes, strict=True):
            labels, pixels = cifar_pixels(size, classes, draw)
            (folder / places[0] / f"{stem}.bin").write_bytes(cifar_records(labels, pixels, classes))
            (folder / places[1] / stem).write_bytes(cifar_pickle(labels, pixels, classes))


def write_movielens(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(0)
    rows = [
        (user, item, draw.randint(1, 5), draw.randint(0, 9))
        for user in range(1, 91)
        for item in draw.sample(range(1, 151), draw.randint(1, 40))
    ]
    write_rows(folder / "u.data", rows)


def write_movielens_1m(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(1)
    rows = [
        (user, item, draw.randint(1, 5), 956_703_932 + draw.randint(0, 9))
        for user in range(1, 41)
        for item in draw.sample(range(1, 260, 2), draw.randint(3, 30))
    ]
    write_rows(folder / "ratings.dat", rows, "::")


def write_rows(path: Path, rows: Sequence[Sequence[int]], separator: str = "\t") -> None:
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))


class NcfFiles(NamedTuple):
    """Rows of the split files: training and test pairs with rating and time, negatives of each test row."""

    train: list[list[int]]
    test: list[list[int]]
    negatives: list[list[int]]

    def write(self, stem: Path) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_rows(stem.with_name(f"{stem.name}.train.rating"), self.train)
        write_rows(stem.with_name(f"{stem.name}.test.rating"), self.test)
        lines = [
            "\t".join([f"({user},{item})", *map(str, row)]) + "\n"
            for (user, item, *_), row in zip(self.test, self.negatives, strict=True)
        ]
        stem.with_name(f"{stem.name}.test.negative").write_text("".join(lines))


def ncf_files(*, timed: bool, users: int = 40, items: int = 130, negatives: int = 99) -> NcfFiles:
    """Every third test item is among its own negatives, as in the published files; two users have one training item."""
    draw, files = random.Random(2), NcfFiles([], [], [])
    for user in range(users):
        *mine, tested = draw.sample(range(items), 2 if user < 2 else draw.randint(3, 25))
        rows = [[user, item, 1, 978_300_000 + draw.randint(0, 9) if timed else 0] for item in (*mine, tested)]
        files.train.extend(rows[:-1])
        files.test.append(rows[-1])
        others = sorted(set(range(items)) - {*mine, tested})
        row = draw.sample(others, negatives)
        files.negatives.append([tested, *row[1:]] if user % 3 == 0 else row)
    missing = set(range(items)) - {item for _, item, *_ in files.train}
    files.train.extend(
        [2, item, 1, 978_200_000 if timed else 0] for item in sorted(missing) if item != files.test[2][1]
    )
    return files


IMAGENET_CLASSES = ("n01440764", "n01443537", "n02102040", "n03028079", "n03394916", "n09468604")
SMALL_IMAGENET = {"channels": 3, "pixels": 32, "classes": len(IMAGENET_CLASSES)}


def encoded(draw: random.Random, *, mode: str = "RGB", kind: str = "JPEG", side: int = 32) -> bytes:
    """A smooth random image of a few tens of pixels, as a file."""
    width, height = draw.randint(side // 2, 2 * side), draw.randint(side // 2, 2 * side)
    small = Image.frombytes("RGB", (4, 4), draw.randbytes(48)).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.convert(mode).save(file, kind)
    return file.getvalue()


def imagenet_files(train: int = 30, val: int = 20) -> dict[str, bytes]:
    """ImageNet in small: split/class/name → content, of as many images a class."""
    draw = random.Random(4)
    images = {
        f"train/{name}/{name}_{number}.JPEG": encoded(draw)
        for name in IMAGENET_CLASSES
        for number in draw.sample(range(10_000), train)
    }
    order = [name for name in IMAGENET_CLASSES for _ in range(val)]
    draw.shuffle(order)
    names = (f"val/{name}/ILSVRC2012_val_{i:08d}.JPEG" for i, name in enumerate(order, 1))
    return images | {name: encoded(draw) for name in names}


def write_imagenet(folder: Path, files: Mapping[str, bytes] | None = None) -> None:
    """As the usual folder."""
    for name, content in (imagenet_files() if files is None else files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_imagenet_archives(folder: Path, files: Mapping[str, bytes]) -> None:
    """As the three original archives; numbers of classes in another order than their names."""
    folder.mkdir(parents=True)
    classes: dict[str, dict[str, bytes]] = {name: {} for name in reversed(IMAGENET_CLASSES)}
    val: dict[str, tuple[str, bytes]] = {}
    for path, content in files.items():
        split, name, file = path.split("/")
        if split == "train":
            classes[name][file] = content
        else:
            val[file] = (name, content)
    (folder / image_folders.TRAIN_ARCHIVE).write_bytes(
        tar({f"{name}.tar": tar(images) for name, images in classes.items()})
    )
    (folder / image_folders.VAL_ARCHIVE).write_bytes(tar({name: content for name, (_, content) in val.items()}))
    numbers = {name: number for number, name in enumerate(classes, 1)}
    rows = [(number, name, 0) for name, number in numbers.items()] + [(len(numbers) + 1, "n00001740", len(numbers))]
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)})
    truth = "".join(f"{numbers[name]}\n" for name, _ in (val[file] for file in sorted(val)))
    kit = {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": truth.encode()}
    content = tar({f"{image_folders.DEVKIT_DATA}/{name}": content for name, content in kit.items()})
    (folder / image_folders.DEVKIT).write_bytes(gzip.compress(content))


def tar(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


PICTURES: dict[str, Any] = {
    "summary": "class folders",
    "data": "images",
    "targets": "classes",
    "metrics": ["accuracy", "accuracy@5"],
    "workload": "trainables.workloads.image_files:build",
    "folder": "pictures",
    "train_examples": 80,
    "full_examples": 90,
    "shape": SMALL_IMAGENET,
    "resident": 1_000_000,
}
"""Row of a folder of 90 images of class folders."""


def write_data(folder: Path) -> None:
    """Writes every data set of the catalogue that has files."""
    write_fashion_mnist(folder / "FashionMNIST" / "raw")
    write_cifar(folder)
    write_imagenet(folder / "imagenet", imagenet_files(16, 5))
    write_movielens(folder / "ml-100k")
    write_movielens_1m(folder / "ml-1m")
    for stem, timed in (("ml-1m", True), ("pinterest-20", False)):
        ncf_files(timed=timed).write(folder / "ncf" / stem)


@contextmanager
def published(folder: Path) -> Iterator[None]:
    """Makes the files that a data folder has the published ones, as all others are refused."""

    def known(file: DataFile) -> DataFile:
        path = folder / file.path
        return _with_content(file, path.read_bytes()) if path.is_file() else file

    with pytest.MonkeyPatch.context() as patch:
        for name, row in DATASETS.items():
            files = tuple(map(known, row.files))
            shape = SMALL_IMAGENET if row.folder else row.shape
            patch.setitem(cast(dict[str, Dataset], DATASETS), name, replace(row, files=files, shape=shape))
        patch.setattr("trainables.data.wrong_numbers", lambda source, found: "")  # of images; plans have the real ones
        yield


def small(row: Dataset, data_dir: Path) -> Dataset:
    """A row of class folders as its images in a data folder are, of which a ninth validate, as 32x32 pixels."""
    found = image_folders.listing(data_dir / row.folder)
    count = len(found.train)
    return replace(row, full_examples=count, train_examples=count - count // 9, shape=SMALL_IMAGENET)


def _with_content(file: DataFile, content: bytes) -> DataFile:
    return replace(file, sha256=content_sha256(file, content), checksum="")
