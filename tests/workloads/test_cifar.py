"""CIFAR: both versions are the same images, byte by byte; what is broken is refused before anything of it is used."""

from __future__ import annotations

import os
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fabricated import cifar_pickle, cifar_pixels, cifar_records, published, write_cifar
from tests.helpers.tasks import IMAGES
from trainables.data import DataError
from trainables.tasks import PackConfig, Task, Trial
from trainables.training.trial import EpochEnded, PackRun, Records
from trainables.workloads import build_workload, cifar
from trainables.workloads.base import Resident
from trainables.workloads.plain_pickle import PickleError, load_plain

CPU = torch.device("cpu")
LABELS, PIXELS = cifar_pixels(20, 10, random.Random(0))


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    write_cifar(tmp_path)
    with published(tmp_path):
        yield tmp_path


def task(name: str) -> Task:
    return replace(IMAGES, dataset=name, batch_size=32)


def workload(name: str, data_dir: Path) -> Resident:
    found = build_workload(task(name), data_dir, CPU)
    assert isinstance(found, Resident)
    return found


@pytest.mark.parametrize("classes", [10, 100])
def test_both_versions_are_the_same_images(classes: int, data_dir: Path) -> None:
    binary, python = (workload(name, data_dir) for name in (f"cifar-{classes}", f"cifar-{classes}-python"))
    seen: list[list[torch.Tensor]] = [[], []]
    for found, mine in zip((binary, python), seen, strict=True):
        inputs, targets = found.batch(*found.epoch(torch.Generator().manual_seed(1)))
        mine += [*inputs, targets]

        def predict(images: torch.Tensor, mine: list[torch.Tensor] = mine) -> torch.Tensor:
            mine.append(images)
            return torch.zeros(1, len(images), classes)

        found.evaluate(predict, "validation")
        found.evaluate(predict, "test")
    assert [tensor.shape for tensor in seen[0]] == [(180, 3, 32, 32), (180,), (20, 3, 32, 32), (100, 3, 32, 32)]
    assert all(a.equal(b) for a, b in zip(*seen, strict=True))


def test_crops_are_the_same_after_an_interruption(data_dir: Path, tmp_path: Path) -> None:
    point = {"peak_lr": 0.01, "warmup_epochs": 1.0, "weight_decay": 0.1}
    config = PackConfig(
        task=replace(task("cifar-10"), epochs=3), members=(Trial(key="a", seed=5, hyperparameters=point),)
    )

    def records(stop: bool, checkpoint: Path | None) -> list[object]:
        run = PackRun(config, data_dir=data_dir, device=CPU, checkpoint=checkpoint, report_seconds=0.0)
        found: list[object] = []
        for event in run:
            if isinstance(event, EpochEnded) and stop:
                run.stop()
            found += event.records if isinstance(event, Records) else []
        return found

    assert not records(True, tmp_path / "saved"), "stopped after its first epoch"
    assert records(False, tmp_path / "saved") == records(False, None)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("fortran", [False, True])
def test_a_reader_returns_what_was_written(classes: int, fortran: bool) -> None:
    labels, pixels = cifar_pixels(120, classes, random.Random(0))
    content = cifar_pickle(labels, pixels, classes, fortran)
    known = pickle.loads(content, encoding="bytes")
    batches = (
        cifar._records(cifar_records(labels, pixels, classes), 1 if classes == 10 else 2),
        cifar._pickled(content),
    )
    for batch in batches:
        assert batch.labels.tolist() == labels == known[b"labels" if classes == 10 else b"fine_labels"]
        assert batch.pixels.tobytes() == pixels == known[b"data"].tobytes()


RECORDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[:-1], "no whole number of records of 3,073 bytes"),
    "longer": (lambda content: content + b"\0", "no whole number of records"),
    "empty": (lambda content: b"", "it holds no image"),
    "a class beyond": (lambda content: b"\x0a" + content[1:], "classes from 0 to 10, not 0 to 9"),
    "of 100 classes": (lambda content: cifar_records(LABELS, PIXELS, 100), "no whole number of records"),
    "pickled": (lambda content: cifar_pickle(LABELS, PIXELS, 10), "no whole number of records"),
}
PICKLES: dict[str, tuple[bytes, str]] = {
    "truncated": (cifar_pickle(LABELS, PIXELS, 10)[:-9], "it is no pickle that can be read"),
    "records": (cifar_records(LABELS, PIXELS, 10), "it is no pickle that can be read"),
    "empty": (b"", "it is no pickle that can be read"),
    "a list": (pickle.dumps([1, 2]), "it holds no dictionary with data and labels"),
    "no labels": (pickle.dumps({b"data": b""}), "it holds no dictionary with data and labels"),
    "no images": (pickle.dumps({b"data": b"", b"labels": [1]}), r"1 labels for images of shape bytes, not \[1, 3072\]"),
    "fewer labels": (cifar_pickle(LABELS[1:], PIXELS, 10), r"an array of shape \[19, 3072\] has 61,440 bytes"),
    "a class beyond": (cifar_pickle([10, *LABELS[1:]], PIXELS, 10), "classes from 0 to 10, not 0 to 9"),
    "labels of text": (pickle.dumps({b"data": b"", b"labels": [b"1"]}), "its labels are no list of whole numbers"),
    "floats": (
        pickle.dumps({b"data": np.zeros(3), b"labels": []}, 2),
        "an array of something else than bytes|it names",
    ),
    "a place beyond memory": (b"\x80\x02}r\xff\xff\xff\x7f.", "it remembers value 2,147,483,647 after 2 operations"),
    "no image": (cifar_pickle([], b"", 10), "it holds no image"),
}


def refused(name: str, file: Path, content: bytes, words: str, data_dir: Path) -> None:
    file.write_bytes(content)
    with published(data_dir), pytest.raises(DataError, match=words) as caught:
        workload(name, data_dir)
    assert str(file) in str(caught.value)
    assert f"`lawn-tune data fetch {name} --data-dir {data_dir}`" in str(caught.value)


@pytest.mark.parametrize(("damage", "words"), RECORDS.values(), ids=RECORDS)
def test_records_of_another_form_are_refused(damage: Callable[[bytes], bytes], words: str, data_dir: Path) -> None:
    file = data_dir / "cifar-10-batches-bin" / "data_batch_3.bin"
    refused("cifar-10", file, damage(file.read_bytes()), words, data_dir)


@pytest.mark.parametrize(("content", "words"), PICKLES.values(), ids=PICKLES)
def test_pickles_of_another_form_are_refused(content: bytes, words: str, data_dir: Path) -> None:
    refused("cifar-10-python", data_dir / "cifar-10-batches-py" / "test_batch", content, words, data_dir)


class Order:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("wrap", [lambda order: order, lambda order: {1: order}, lambda order: [[order]]])
def test_nothing_that_a_pickle_names_is_called(wrap: Callable[[object], object], tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(wrap(Order(str(tmp_path / "made"))), protocol)
        with pytest.raises(PickleError, match=r"it names posix\.mkdir"):
            load_plain(content)
    assert not (tmp_path / "made").exists()
    others: tuple[object, ...] = (OrderedDict(), np.float64(1), random.Random(0), len, ValueError("x"))
    for value in others:
        with pytest.raises(PickleError, match="it names"):
            load_plain(pickle.dumps(value))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_pickle_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    content = bytearray(cifar_pickle([1, 2], bytes(2 * 3072), 10))
    for place, value in changes:
        content[place if place < 200 else -1 - place + 200] = value
    with suppress(ValueError):
        batch = cifar._pickled(bytes(content))
        assert batch.pixels.shape == (len(batch.labels), 3072)
