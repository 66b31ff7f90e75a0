"""What images a folder holds: of class folders, or of ImageNet's original archives. Decodes nothing, imports no torch.

    train/CLASS/NAME.jpeg      or      ILSVRC2012_img_train.tar    of CLASS.tar, each of NAME.JPEG
    val/CLASS/NAME.jpeg                ILSVRC2012_img_val.tar      of NAME.JPEG in the order of the ground truth
                                       ILSVRC2012_devkit_t12.tar.gz    which class each of these is

Images come in the order of their classes' names and then of their own, so both forms of ImageNet are the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ENDINGS = (".jpg", ".jpeg", ".png")
"""Of names of images, in letters of either case; other files and hidden ones are left out."""

TRAIN_ARCHIVE = "ILSVRC2012_img_train.tar"
VAL_ARCHIVE = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
DEVKIT_DATA = "ILSVRC2012_devkit_t12/data"
DEVKIT_FILES = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
"""The classes, by number, and the number of each validation image's."""

ARCHIVES = (TRAIN_ARCHIVE, VAL_ARCHIVE, DEVKIT)

CONTENT = 2**30
"""Bytes of images up to which their digest is of the content as well; beyond, of names and sizes (our choice)."""


class ListingError(ValueError):
    """A folder that cannot be used; the text names the place and the reason."""


class MissingFolder(ListingError):
    """There is no such folder, or it holds neither form."""


class Image(NamedTuple):
    """Where an image is: `size` bytes from `offset` of a file."""

    file: str
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        """Returns its content, as it is encoded.

        Raises:
            OSError: it cannot be read, or is shorter than it was.
        """
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) != self.size:
            raise OSError(f"it ends after {len(content):,} of {self.size:,} bytes")
        return content

    @property
    def shown(self) -> str:
        """Its place for people, whatever bytes its name has."""
        return shown(self.file if self.file.endswith(self.name) else f"{self.file}: {self.name}")


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Args:
        classes: names, sorted by their bytes; the class of an image is an index of them.
        train, val: images with their classes, by class and then by name.
    """

    classes: tuple[str, ...]
    train: tuple[tuple[Image, int], ...]
    val: tuple[tuple[Image, int], ...]

    @cached_property
    def small(self) -> bool:
        """Whether its digest is of the content as well."""
        return sum(image.size for image, _ in (*self.train, *self.val)) <= CONTENT

    @cached_property
    def digest(self) -> str:
        """sha256 of every image's split, class, name and size, and of its content if all take at most `CONTENT`."""
        found = hashlib.sha256()
        for split, images in (("train", self.train), ("val", self.val)):
            for image, label in images:
                found.update(b"\0".join(map(os.fsencode, (split, self.classes[label], image.name, str(image.size)))))
                found.update(hashlib.sha256(image.read()).digest() if self.small else b"\n")
        return found.hexdigest()


def shown(name: str) -> str:
    """Returns a file's name in letters that every display has a form for."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


_last: dict[tuple[str, tuple[int, ...]], Listing] = {}
"""The last large listing of this process, by its folder and the times at which that was changed."""


def forget() -> None:
    """Frees what `listing` keeps, in a process that will not ask for it again."""
    _last.clear()


def listing(folder: Path) -> Listing:
    """Returns the images of a folder of either form.

    A large one, which takes a minute to list, is kept until a folder or archive of it changes: who checks it and who
    trains on it may be one process, with one cell after another.

    Raises:
        MissingFolder: it holds neither form.
        ListingError: it holds one that cannot be used.
    """
    key = str(folder), _changed(folder)
    if key in _last:
        return _last[key]
    found = _read(folder)
    if not found.small:
        _last.clear()
        _last[key] = found
    return found


def _changed(folder: Path) -> tuple[int, ...]:
    """Returns when each class folder or archive was changed, ns; () if one cannot be looked at."""
    try:
        splits = [folder / split for split in ("train", "val") if (folder / split).is_dir()]
        places = [*splits, *(entry for split in splits for entry in os.scandir(split) if entry.is_dir())]
        return tuple(os.stat(place).st_mtime_ns for place in places or [folder / name for name in ARCHIVES])
    except OSError:
        return ()


def _read(folder: Path) -> Listing:
    try:
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return _of_folders(folder)
        absent = [name for name in ARCHIVES if not (folder / name).is_file()]
        if len(absent) == len(ARCHIVES):
            raise MissingFolder(f"{folder} holds neither train/ and val/ nor {', '.join(ARCHIVES)}")
        if absent:
            raise MissingFolder(f"{folder} lacks {', '.join(absent)}")
        return _of_archives(folder)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ListingError(
            f"{shown(getattr(error, 'filename', None) or str(folder))} cannot be read: {error}"
        ) from None


def _sorted(names: Iterator[str]) -> list[str]:
    return sorted(names, key=os.fsencode)


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


# --- class folders ------------------------------------------------------------------------------------------------


def _of_folders(folder: Path) -> Listing:
    classes = {split: _classes(folder / split) for split in ("train", "val")}
    for one, other in (("train", "val"), ("val", "train")):
        if alone := [name for name in classes[one] if name not in classes[other]]:
            raise ListingError(
                f"{folder} has class '{shown(alone[0])}' in {one} but not in {other} ({len(alone)} such "
                f"{'class' if len(alone) == 1 else 'classes'})"
            )
    train, val = (
        tuple((image, label) for label, name in enumerate(classes[split]) for image in _images(folder / split / name))
        for split in ("train", "val")
    )
    return Listing(tuple(classes["train"]), train, val)


def _classes(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = _sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ListingError(f"{folder} holds no class folder")
    return names


def _images(folder: Path) -> Iterator[Image]:
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if _is_image(entry.name) and entry.is_file()}
    if not sizes:
        raise ListingError(f"class folder {shown(str(folder))} holds no image ({', '.join(ENDINGS)})")
    for name in _sorted(iter(sizes)):
        yield Image(os.path.join(folder, name), 0, sizes[name], name)


# --- ImageNet's archives ------------------------------------------------------------------------------------------


def _of_archives(folder: Path) -> Listing:
    wnids, truth = _devkit(folder / DEVKIT)
    classes = sorted(wnids.values())
    label_of = {name: label for label, name in enumerate(classes)}
    train = _train_archive(folder / TRAIN_ARCHIVE, label_of)
    with tarfile.open(folder / VAL_ARCHIVE, "r:") as opened:
        images = sorted(_members(folder / VAL_ARCHIVE, opened), key=lambda image: image.name)
    if len(images) != len(truth):
        raise ListingError(
            f"{folder / VAL_ARCHIVE} holds {len(images):,} images, and {DEVKIT} classes of {len(truth):,}"
        )
    val = sorted(
        ((image, label_of[wnids[number]]) for image, number in zip(images, truth, strict=True)),
        key=lambda pair: (pair[1], pair[0].name),
    )
    return Listing(tuple(classes), train, tuple(val))


def _train_archive(archive: Path, label_of: dict[str, int]) -> tuple[tuple[Image, int], ...]:
    found: dict[str, list[Image]] = {}
    with tarfile.open(archive, "r:") as outer, open(archive, "rb") as file:
        for member in outer:
            name = os.path.basename(member.name).removesuffix(".tar")
            if name not in label_of:
                raise ListingError(f"{archive} holds {shown(member.name)}, which {DEVKIT} knows no class of")
            file.seek(member.offset_data)
            with tarfile.open(fileobj=file, mode="r:") as inner:
                found[name] = list(_members(archive, inner))
    for name in label_of:
        if not found.get(name):
            raise ListingError(f"{archive} holds no image of class {name}")
    return tuple(
        (image, label) for name, label in label_of.items() for image in sorted(found[name], key=lambda one: one.name)
    )


def _members(archive: Path, opened: tarfile.TarFile) -> Iterator[Image]:
    place = str(archive)
    for member in opened:
        name = os.path.basename(member.name)
        if member.isfile() and _is_image(name):
            yield Image(place, member.offset_data, member.size, name)


def _devkit(archive: Path) -> tuple[dict[int, str], list[int]]:
    """Returns the number of each class → its WordNet id, and the numbers of the validation images' classes."""
    from scipy.io import loadmat  # only these archives need it

    try:
        with tarfile.open(archive, "r:gz") as opened:
            meta, truth = (opened.extractfile(f"{DEVKIT_DATA}/{name}") for name in DEVKIT_FILES)
            if meta is None or truth is None:
                raise LookupError(f"{DEVKIT_DATA} lacks {' or '.join(DEVKIT_FILES)}")
            synsets, numbers = loadmat(io.BytesIO(meta.read()), squeeze_me=True)["synsets"], list(map(int, truth))
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if not row["num_children"]}
        if unknown := set(numbers) - wnids.keys():
            raise LookupError(f"it knows no class {min(unknown)}")
    except (ValueError, TypeError, LookupError, NotImplementedError) as error:
        raise ListingError(f"{archive} does not say the classes of the validation images: {error}") from None
    return wnids, numbers
