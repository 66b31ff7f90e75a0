"""Class folders and ImageNet: both forms are the same images, any number of threads draws the same crops, and what is
broken is named."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from tests.helpers.fabricated import (
    IMAGENET_CLASSES,
    encoded,
    imagenet_files,
    small,
    tar,
    write_imagenet,
    write_imagenet_archives,
)
from tests.helpers.tasks import CPU, IMAGES
from trainables import data, image_folders
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.rows import Dataset
from trainables.data import DataError
from trainables.image_folders import DEVKIT, TRAIN_ARCHIVE, VAL_ARCHIVE, listing
from trainables.workloads import build_workload
from trainables.workloads.decoding import RATIO, SCALE, WHOLE, Encoded, Opened, box_of, shown
from trainables.workloads.image_files import ImageFiles

TASK = replace(IMAGES, dataset="imagenet", batch_size=32)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_imagenet(tmp_path / "imagenet")
    for name in ("imagenet", "imagenet-resized"):
        monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), name, small(DATASETS[name], tmp_path))
    return tmp_path


def built(data_dir: Path, name: str = "imagenet", **changes: object) -> ImageFiles:
    found = build_workload(replace(TASK, dataset=name, **changes), data_dir, CPU)  # type: ignore[arg-type]
    assert isinstance(found, ImageFiles)
    return found


def epoch(workload: ImageFiles, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    steps = workload.batches([torch.Generator().manual_seed(7)], 32, 20, first)
    return [(part.inputs[0], part.targets) for step in steps for part in step]


def test_both_forms_of_imagenet_are_the_same_images(data_dir: Path) -> None:
    folder = listing(data_dir / "imagenet")
    write_imagenet_archives(data_dir / "archives", imagenet_files())
    archives = listing(data_dir / "archives")
    assert folder.classes == archives.classes == IMAGENET_CLASSES
    assert [label for _, label in folder.train] == sorted(label for _, label in folder.train)
    for one, other in ((folder.train, archives.train), (folder.val, archives.val)):
        assert [(image.name, label, image.read()) for image, label in one] == [
            (image.name, label, image.read()) for image, label in other
        ]
    assert folder.digest == archives.digest


def test_validation_and_test_are_held_out_and_every_class_is_in_each(data_dir: Path) -> None:
    search, full = built(data_dir), built(data_dir, train_on="train+validation")
    row, labels = DATASETS["imagenet"], search._labels
    trained, validation, test = search._train, search.held_out("validation"), search.held_out("test")
    assert validation is not None
    assert test is not None
    assert torch.cat([trained, validation, test]).sort().values.equal(torch.arange(len(labels)))
    assert (search.examples, full.examples) == (row.train_examples, row.full_examples) == (160, 180)
    assert {len(set(labels[part].tolist())) for part in (trained, validation, test)} == {6}
    assert full.held_out("validation") is None


def test_an_epoch_is_the_same_with_any_threads_from_any_step(data_dir: Path) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = epoch(built(data_dir))
        torch.set_num_threads(5)
        several = built(data_dir)
    finally:
        torch.set_num_threads(threads)
    for first, skipped in ((0, 0), (1, 2), (4, 8)):
        assert all(
            x.equal(a) and y.equal(b) for (x, y), (a, b) in zip(alone[skipped:], epoch(several, first), strict=True)
        )
    assert sum(len(targets) for _, targets in alone) == several.examples


def test_the_cache_is_built_once_and_drawn_from_like_the_files(data_dir: Path) -> None:
    plain, first = built(data_dir), built(data_dir, "imagenet-resized")
    (cache,) = (data_dir / "imagenet").glob(".resized-*.npy")
    stamp, side = cache.stat().st_mtime_ns, round(DATASETS["imagenet-resized"].shape["pixels"] * 256 / 224)
    assert np.load(cache, mmap_mode="r")["pixels"].shape == (len(plain._labels), side, side, 3)
    again = built(data_dir, "imagenet-resized")
    assert cache.stat().st_mtime_ns == stamp
    assert plain.digest == first.digest == again.digest != ""
    for (x, y), (a, b), (c, _) in zip(epoch(plain), epoch(first), epoch(again), strict=True):
        assert y.equal(b)
        assert a.equal(c)
        torch.testing.assert_close(x, a, atol=2.5, rtol=0)  # resized twice, so smoother
        assert (x - a).abs().mean() < 0.15
    record = np.load(cache, mmap_mode="r+")
    record["pixels"][3, 0, 0, 0] ^= 1
    record.flush()
    with pytest.raises(DataError, match=rf"cache {re.escape(str(cache))} is damaged at image 3\. Remove it"):
        first._decoder._pictures.open(3)
    cache.write_bytes(cache.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"cannot be used: .*Remove it"):
        built(data_dir, "imagenet-resized")
    assert not list((data_dir / "imagenet").glob(".*.draft"))


@pytest.mark.parametrize("change", [{"channels": 1}, {"channels": 0}, {"pixels": 0}])
def test_a_row_of_other_images_is_refused(
    change: dict[str, int], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = DATASETS["imagenet"]
    changed = replace(row, shape={name: value for name, value in {**row.shape, **change}.items() if value})
    monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), "imagenet", changed)
    with pytest.raises(DataError, match="'imagenet' requires `channels = 3` and `pixels` in its shape"):
        built(data_dir)


@pytest.mark.parametrize("other", ["fewer images", "other pixels"])
def test_a_cache_of_other_images_is_refused(other: str, data_dir: Path) -> None:
    built(data_dir, "imagenet-resized")
    (cache,) = (data_dir / "imagenet").glob(".resized-*.npy")
    records = np.load(cache)
    np.save(cache, records[1:] if other == "fewer images" else records["pixels"][:, 0, 0, 0])
    with pytest.raises(DataError, match=rf"the cache {re.escape(str(cache))} is not one of these images\. Remove it"):
        built(data_dir, "imagenet-resized")


@given(st.integers(0, 2**63 - 2), st.integers(1, 900), st.integers(1, 900))
def test_a_crop_is_within_its_image_and_of_the_shares_it_is_drawn_from(draw: int, width: int, height: int) -> None:
    (left, upper, right, lower), _ = box_of(draw, width, height)
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    if min(width, height) > 100 and max(width, height) < 3 * min(width, height):
        aspect, area = (right - left) / (lower - upper), (right - left) * (lower - upper) / (width * height)
        assert RATIO[0] * 0.9 < aspect < RATIO[1] * 1.1
        assert SCALE[0] * 0.9 < area <= 1


def test_crops_have_the_distribution_of_torchvision_s() -> None:
    size, draws = torch.zeros(3, 375, 500), 1500
    ours = np.array([box_of(draw * 2**40 + 1, 500, 375)[0] for draw in range(draws)])
    torch.manual_seed(0)
    theirs = np.array([v2.RandomResizedCrop.make_params(v2.RandomResizedCrop(224), [size]) for _ in range(draws)])
    top, left, height, width = ([one[key] for one in theirs] for key in ("top", "left", "height", "width"))
    for mine, other in (
        (ours[:, 0], left),
        (ours[:, 1], top),
        (ours[:, 2] - ours[:, 0], width),
        (ours[:, 3] - ours[:, 1], height),
    ):
        spread = np.std(other) / draws**0.5
        assert abs(np.mean(mine) - np.mean(other)) < 6 * spread
        assert 0.9 < np.std(mine) / np.std(other) < 1.1
    mirrored = sum(box_of(draw * 2**40 + 1, 500, 375)[1] for draw in range(draws))
    assert abs(mirrored / draws - 0.5) < 0.06


def test_a_measured_image_is_the_center_of_the_resized_one() -> None:
    image = Image.frombytes("RGB", (40, 30), random.Random(0).randbytes(3600)).resize(
        (640, 512), Image.Resampling.BICUBIC
    )
    ours = torch.from_numpy(shown(Opened(image, *image.size), WHOLE, 224).copy()).permute(2, 0, 1)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    theirs = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(tensor)
    assert (ours.int() - theirs.int()).abs().float().mean() < 1


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG")]
)
def test_other_colors_become_rgb(mode: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encoded(random.Random(0), mode=mode, kind=kind))
    opened = Encoded([image_folders.Image(str(tmp_path / "a"), 0, (tmp_path / "a").stat().st_size, "a")]).open(0)
    assert opened.image.mode == "RGB"
    plain = Image.open(tmp_path / "a").convert("RGB")
    assert opened.image.tobytes() == plain.tobytes()


def test_hidden_and_other_files_are_left_out_and_any_bytes_may_be_a_name(data_dir: Path) -> None:
    folder, before = data_dir / "imagenet", listing(data_dir / "imagenet")
    for name in (".DS_Store", "train/.cache", "train/notes.txt", f"train/{IMAGENET_CLASSES[0]}/._x.JPEG"):
        (folder / name).write_bytes(b"x")
    (folder / "train" / ".hidden").mkdir()
    assert listing(folder) == before
    odd = os.path.join(os.fsencode(folder), b"train", IMAGENET_CLASSES[0].encode(), b"z\xff\xe9.Jpg")
    shutil.copy(os.fsencode(before.train[0][0].file), odd)
    found = listing(folder)
    assert len(found.train) == len(before.train) + 1
    assert found.digest != before.digest
    (image,) = [image for image, _ in found.train if image.name.endswith(".Jpg")]
    assert image.shown.endswith(r"z\xff\xe9.Jpg")
    assert image.read() == before.train[0][0].read()


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty class": (
        lambda f: list(map(Path.unlink, (f / "train" / IMAGENET_CLASSES[2]).iterdir())),
        "holds no image",
    ),
    "a class less": (lambda f: shutil.rmtree(f / "val" / IMAGENET_CLASSES[1]), f"'{IMAGENET_CLASSES[1]}' in train but"),
    "a class more": (lambda f: shutil.copytree(f / "val" / IMAGENET_CLASSES[1], f / "val" / "x"), "'x' in val but not"),
    "no class": (lambda f: list(map(shutil.rmtree, (f / "val").iterdir())), "holds no class folder"),
    "an image less": (lambda f: next((f / "train" / IMAGENET_CLASSES[0]).iterdir()).unlink(), "full_examples 179"),
    "a link to nothing": (lambda f: (f / "train" / IMAGENET_CLASSES[0] / "a.png").symlink_to("b"), ""),
    "no val": (lambda f: shutil.rmtree(f / "val"), "holds neither train/ and val/ nor ILSVRC"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_that_cannot_be_used_is_named_with_the_reason(harm: str, data_dir: Path) -> None:
    change, words = HARMS[harm]
    change(data_dir / "imagenet")
    state = data.check("imagenet", data_dir).state
    assert state == {"no val": "missing", "a link to nothing": "ready"}.get(harm, "broken")
    if words:
        with pytest.raises(DataError, match=re.escape(words)) as caught:
            built(data_dir)
        assert str(data_dir / "imagenet") in str(caught.value)
        with pytest.raises(DataError, match=re.escape(words)):
            data.fetch("imagenet", data_dir)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


ARCHIVE_HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no devkit": (lambda f: (f / DEVKIT).unlink(), f"lacks {DEVKIT}"),
    "a cut devkit": (lambda f: (f / DEVKIT).write_bytes((f / DEVKIT).read_bytes()[:60]), "cannot be read"),
    "another devkit": (
        lambda f: (f / DEVKIT).write_bytes(gzip.compress(tar({"a": b""}))),
        "does not say",
    ),
    "an image less": (lambda f: (f / VAL_ARCHIVE).write_bytes(tar({"ILSVRC2012_val_00000001.JPEG": b"x"})), "1 images"),
    "no tar": (lambda f: (f / TRAIN_ARCHIVE).write_bytes(b"x" * 2000), "cannot be read"),
    "an unknown class": (lambda f: (f / TRAIN_ARCHIVE).write_bytes(tar({"n1.tar": tar({})})), "knows no class of"),
    "a class less": (
        lambda f: (f / TRAIN_ARCHIVE).write_bytes(tar({f"{IMAGENET_CLASSES[5]}.tar": tar({"a.JPEG": b"x"})})),
        "holds no image of class",
    ),
}


@pytest.mark.parametrize("harm", ARCHIVE_HARMS)
def test_an_archive_that_cannot_be_used_is_named_with_the_reason(harm: str, tmp_path: Path) -> None:
    write_imagenet_archives(tmp_path / "imagenet", imagenet_files(2, 2))
    change, words = ARCHIVE_HARMS[harm]
    change(tmp_path / "imagenet")
    with pytest.raises(image_folders.ListingError, match=re.escape(words)):
        listing(tmp_path / "imagenet")


CONTENTS = {
    "cut": encoded(random.Random(1))[:300],
    "empty": b"",
    "text": b"<html>",
    "16 bits": None,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_an_image_that_does_not_decode_is_named(content: str, data_dir: Path) -> None:
    image, _ = listing(data_dir / "imagenet").val[-1]
    place = Path(image.file)
    if CONTENTS[content] is None:
        Image.new("I;16", (30, 30), 700).save(place, "PNG")
    else:
        place.write_bytes(CONTENTS[content] or b"")
    workload = built(data_dir)
    with pytest.raises(DataError, match=rf"^{re.escape(str(place))} cannot be decoded: .+\. Restore or remove it\."):
        workload.evaluate(lambda images: torch.zeros(1, len(images), 6), "test")


@pytest.mark.parametrize(("content", "reads"), [(0, 1), (2**30, 4)])
def test_a_large_folder_is_listed_once_a_process_until_it_changes(
    content: int, reads: int, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, found = image_folders._read, list[Path]()
    monkeypatch.setattr(image_folders, "CONTENT", content)

    def counted(folder: Path) -> image_folders.Listing:
        found.append(folder)
        return read(folder)

    monkeypatch.setattr(image_folders, "_read", counted)
    try:
        assert data.check("imagenet", data_dir).state == "ready"
        first = built(data_dir)
        assert built(data_dir, batch_size=16).digest == first.digest
        assert data.check("imagenet-resized", data_dir).state == "ready"
        assert len(found) == reads
        (place := data_dir / "imagenet/train" / IMAGENET_CLASSES[0] / "new.jpg").write_bytes(encoded(random.Random(0)))
        os.utime(place.parent, (1, 1))
        assert data.check("imagenet", data_dir).state == "broken", "one image more"
        assert len(found) == reads + 1
    finally:
        image_folders.forget()


def test_a_pinned_digest_is_compared(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = DATASETS["imagenet"]
    digest = listing(data_dir / "imagenet").digest
    monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), "imagenet", replace(row, sha256=digest))
    assert built(data_dir).digest == digest
    image, _ = listing(data_dir / "imagenet").train[0]
    content = bytearray(image.read())
    content[-3] ^= 1
    Path(image.file).write_bytes(content)
    with pytest.raises(DataError, match=r"has sha256 .* and its row another"):
        built(data_dir)
