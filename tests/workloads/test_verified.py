"""What is trained on is the published data: files are verified where they are read, and the bits follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers import tasks
from tests.helpers.fabricated import idx, published, write_data, write_fashion_mnist, write_movielens
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.rows import Dataset
from trainables.data import DataError, MissingDataError
from trainables.tasks import Task
from trainables.workloads import build_workload, digits, fashion_mnist
from trainables.workloads.base import Resident

CPU = torch.device("cpu")
IMAGES = replace(tasks.IMAGES, batch_size=32)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw")
    write_movielens(tmp_path / "ml-100k")
    with published(tmp_path):
        yield tmp_path


def drawn(task: Task, data_dir: Path) -> list[Tensor]:
    """The examples of an epoch as the model sees them, and those of the test split."""
    workload = build_workload(task, data_dir, CPU)
    assert isinstance(workload, Resident)
    inputs, targets = workload.batch(*workload.epoch(torch.Generator().manual_seed(1)))
    seen: list[Tensor] = []

    def predict(*parts: Tensor) -> Tensor:
        seen.extend(parts)
        return torch.zeros(1, len(parts[0]), *([10] if task.dataset == "fashion-mnist" else []))

    workload.evaluate(predict, "test")
    return [*inputs, targets, *seen]


def lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda content: content[: len(content) // 2],
    "without its last line": lambda content: b"".join(lines(content)[:-1]),
    "more users": lambda content: content + b"901\t1\t5\t3\n901\t2\t5\t4\n901\t3\t5\t5\n",
    "a header": lambda content: b"user\titem\trating\ttimestamp\n" + content,
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "a form feed": lambda content: content.replace(b"\n", b"\f\n", 1),
    "an empty line": lambda content: b"\n" + content,
    "a line twice": lambda content: lines(content)[0] + content,
    "another rating": lambda content: content.replace(b"\t5\t", b"\t4\t", 1),
    "nothing": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_ratings_that_are_not_the_published_ones_are_refused(damage: Callable[[bytes], bytes], data_dir: Path) -> None:
    path = data_dir / "ml-100k" / "u.data"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"'movielens-100k' is damaged .* Fetch it again: ") as caught:
        build_workload(tasks.RANKING, data_dir, CPU)
    assert not isinstance(caught.value, MissingDataError)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
def test_line_ends_do_not_change_a_bit(end: bytes, data_dir: Path) -> None:
    path = data_dir / "ml-100k" / "u.data"
    before = drawn(tasks.RANKING, data_dir)
    path.write_bytes(path.read_bytes().replace(b"\n", end))
    assert all(a.equal(b) for a, b in zip(before, drawn(tasks.RANKING, data_dir), strict=True))


@pytest.mark.parametrize("place", [0, -1, 5_000], ids=["magic", "last pixel", "a pixel"])
def test_images_that_are_not_the_published_ones_are_refused(place: int, data_dir: Path) -> None:
    path = data_dir / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"'fashion-mnist' is damaged .*{path}"):
        build_workload(IMAGES, data_dir, CPU)


def test_images_that_an_older_library_left_are_not_read(data_dir: Path) -> None:
    before = drawn(IMAGES, data_dir)
    processed = data_dir / "FashionMNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(100, 28, 28, dtype=torch.uint8), torch.arange(100) % 10), processed / name)
    assert all(a.equal(b) for a, b in zip(before, drawn(IMAGES, data_dir), strict=True))


SHAPES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "cut": ("train-images-idx3", lambda content: content[:-1]),
    "longer": ("train-images-idx3", lambda content: content + b"\0"),
    "an empty file": ("t10k-labels-idx1", lambda content: b""),
    "a header alone": ("t10k-images-idx3", lambda content: content[:16]),
    "a count beyond the content": ("train-images-idx3", lambda content: content[:4] + b"\xff" * 4 + content[8:]),
    "sizes beyond memory": ("train-images-idx3", lambda content: content[:4] + b"\x7f\xff\xff\xff" * 3 + content[16:]),
    "another size": ("train-images-idx3", lambda content: idx(content[16:], 100, 56, 28)),
    "rows as columns": ("train-images-idx3", lambda content: idx(content[16:], 200, 14, 56)),
    "numbers of two bytes": ("t10k-images-idx3", lambda content: content[:2] + b"\x0b" + content[3:]),
    "two dimensions": ("t10k-images-idx3", lambda content: idx(content[16:], 300, 784)),
    "fewer labels": ("t10k-labels-idx1", lambda content: idx(content[8:-1], 299)),
    "a label beyond the classes": ("train-labels-idx1", lambda content: content[:-1] + b"\x0a"),
}


@pytest.mark.parametrize(("stem", "damage"), SHAPES.values(), ids=SHAPES)
def test_the_reader_of_images_trusts_no_shape(stem: str, damage: Callable[[bytes], bytes], data_dir: Path) -> None:
    """By itself: a file of wrong shape may be the published one of another catalogue."""
    path = data_dir / "FashionMNIST" / "raw" / f"{stem}-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path.parent} is damaged: ") as caught:
        fashion_mnist.build(IMAGES, data_dir, CPU)
    assert not isinstance(caught.value, MissingDataError)


def test_a_file_that_is_replaced_while_it_is_read_is_noticed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, build = data_dir / "ml-100k" / "u.data", build_workload.__globals__["resolved"]

    def replaced(code: str) -> Callable[..., object]:
        (data_dir / "new").write_bytes(path.read_bytes())
        (data_dir / "new").replace(path)
        return cast(Callable[..., object], build(code))

    monkeypatch.setattr("trainables.workloads.resolved", replaced)
    with pytest.raises(DataError, match=r"'movielens-100k' in .* changed while it was read"):
        build_workload(tasks.RANKING, data_dir, CPU)


def test_a_data_set_of_others_is_verified_as_well(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(DATASETS["synthetic"], files=DATASETS["movielens-100k"].files)
    monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), "synthetic", row)
    task = replace(IMAGES, dataset="synthetic")
    build_workload(task, data_dir, CPU)
    (data_dir / "ml-100k" / "u.data").write_bytes(b"")
    with pytest.raises(DataError, match="'synthetic' is damaged"):
        build_workload(task, data_dir, CPU)


def test_other_digits_than_the_published_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(IMAGES, dataset="digits")
    build_workload(task, Path("nowhere"), CPU)
    other = digits.read_digits()
    other[-1, -1] = np.uint8(9 - other[-1, -1])
    monkeypatch.setattr(digits, "read_digits", lambda: other)
    with pytest.raises(DataError, match="digits of the installed scikit-learn differ"):
        build_workload(task, Path("nowhere"), CPU)


@pytest.mark.parametrize(
    ("workload", "path"),
    [
        ("movielens:build", "ml-100k/u.data"),
        ("movielens:build_with_colons", "ml-1m/ratings.dat"),
        ("ncf_files:build", "ncf/ml-1m.train.rating"),
    ],
)
def test_interactions_of_ones_own_need_a_row_and_no_code(workload: str, path: str, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    (tmp_path / "data" / path).parent.rename(tmp_path / "data" / "mine")
    files = [
        {"path": f"mine/{file.name}", "url": "https://example.org/x", "sha256": sha256(file.read_bytes()).hexdigest()}
        for file in sorted((tmp_path / "data" / "mine").glob(f"{Path(path).name.partition('.')[0]}*"), reverse=True)
    ]
    row = {
        "summary": "mine", "data": "interactions", "targets": "binary", "metrics": ["hr@10"], "train_examples": 1,
        "full_examples": 1, "workload": f"trainables.workloads.{workload}", "files": files,
    }  # fmt: skip
    task = replace(tasks.RANKING, dataset="mine", rows=json.dumps({"datasets": {"mine": row}}))
    assert build_workload(task, tmp_path / "data", CPU).examples > 0
    (tmp_path / "data" / files[0]["path"]).write_bytes(b"")
    with pytest.raises(DataError, match="'mine' is damaged"):
        build_workload(task, tmp_path / "data", CPU)
