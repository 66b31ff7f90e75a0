"""Sources of data sets: checks the files on disk, and fetches missing or damaged ones. Does not import torch."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import pooch  # type: ignore[import-untyped]

from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.rows import DataFile, Dataset
from trainables.image_folders import Listing, ListingError, MissingFolder, listing

TIMEOUT = 30.0
"""Seconds without a response or data after which a download fails."""
CHUNK = 1 << 16

SEARCHED = 1000
"""Folders that are searched for a file that is not where it belongs."""


class DataError(ValueError):
    """A data set that cannot be used; the message gives the reason and what to do."""


class MissingDataError(DataError):
    """A data set that has to be fetched first; the message gives the command and the URL."""


class ProgressBar(Protocol):
    """Progress of a download: `total` bytes are expected (0 if unknown), `update` adds received bytes."""

    total: int

    def update(self, count: int) -> None:
        """Adds `count` received bytes."""
        ...

    def reset(self) -> None:
        """Resets the count to zero."""
        ...

    def close(self) -> None:
        """Ends the bar of a successful download."""
        ...


@dataclass(frozen=True)
class Status:
    """The state of a data set on this machine.

    Args:
        name: of the data set.
        state: "ready"; "missing" if any of its files is; "broken" if the content of a file differs.
        detail: one line, shown to the user.
    """

    name: str
    state: Literal["ready", "missing", "broken"]
    detail: str


def check(name: str, data_dir: Path, known: Mapping[str, Dataset] = DATASETS) -> Status:
    """Returns the state of data set `name`, comparing its content with the published one.

    Raises:
        DataError: the data set is unknown.
    """
    source = _source(name, known)
    if source.package and find_spec(source.package) is None:
        return Status(name, "missing", f"part of {source.package}; pip install 'lawn-tune[train]'")
    if source.folder:
        return _folder_status(source, data_dir)
    if not source.files:
        return Status(name, "ready", f"part of {source.package}" if source.package else "generated when needed")
    missing = _absent(source, data_dir)
    if missing:
        return Status(name, "missing", f"missing file{'s' * (len(missing) > 1)} {', '.join(missing)}")
    closed = [str(data_dir / file.path) for file in source.files if not os.access(data_dir / file.path, os.R_OK)]
    if closed:
        return Status(name, "broken", f"not readable by this user: {', '.join(closed)}")
    broken = [str(data_dir / file.path) for file in source.files if not _intact(file, data_dir / file.path)]
    if broken:
        return Status(name, "broken", f"content differs from its checksum: {', '.join(broken)}")
    return Status(name, "ready", str((data_dir / source.files[0].path).parent))


def _folder_status(source: Dataset, data_dir: Path) -> Status:
    try:
        found = image_listing(source, data_dir)
    except MissingDataError as error:
        return Status(source.name, "missing", str(error))
    except DataError as error:
        return Status(source.name, "broken", str(error))
    images = f"{len(found.train):,} + {len(found.val):,} images of {len(found.classes):,} classes"
    return Status(source.name, "ready", f"{data_dir / source.folder}: {images}")


def image_listing(source: Dataset, data_dir: Path) -> Listing:
    """Returns the images of a data set of class folders, as many as its row says.

    Raises:
        MissingDataError: there is no such folder.
        DataError: it cannot be used, or holds others than its row says.
    """
    folder, todo = data_dir / source.folder, "Correct the folder, or the row of the data set."
    try:
        found = listing(folder)
    except MissingFolder as error:
        raise MissingDataError(
            f"data set '{source.name}' is not in {data_dir}: {error}. It cannot be downloaded; put it there, or "
            "give its folder by --data-dir."
        ) from None
    except ListingError as error:
        raise DataError(f"data set '{source.name}': {error}. {todo}") from None
    if wrong := wrong_numbers(source, found):
        raise DataError(f"data set '{source.name}': {folder} has {wrong}. {todo}")
    if source.sha256 and source.sha256 != found.digest:
        raise DataError(f"data set '{source.name}': {folder} has sha256 {found.digest}, and its row another. {todo}")
    return found


def wrong_numbers(source: Dataset, found: Listing) -> str:
    """Returns what a folder holds that is not as its row says, "" if all is."""
    for what, named, number in (
        ("classes", source.shape.get("classes", 0), len(found.classes)),
        ("full_examples", source.full_examples, len(found.train)),
    ):
        if named != number:
            return f"{what} {number}, and its row {named}"
    below = 0 < source.train_examples < source.full_examples
    return "" if below else f"train_examples {source.train_examples}, which must be below full_examples"


def _absent(source: Dataset, data_dir: Path) -> list[str]:
    return [str(data_dir / file.path) for file in source.files if not os.path.isfile(data_dir / file.path)]


@contextmanager
def verified(source: Dataset, data_dir: Path) -> Iterator[None]:
    """While a data set is read: its files are the published ones, and stay so until they have been read.

    Raises:
        MissingDataError: it is missing.
        DataError: its content differs from the published one, or changed in the meantime.
    """
    before = _stamps(source, data_dir)
    if source.folder:  # whoever lists its images checks them, and each one is checked where it is decoded
        yield
        return
    require(source.name, data_dir, {source.name: source})
    yield
    if _stamps(source, data_dir) != before:
        raise DataError(f"data set '{source.name}' in {data_dir} changed while it was read. Launch again.")


def _stamps(source: Dataset, data_dir: Path) -> list[tuple[int, ...] | None]:
    """Returns numbers that change when a file is written or replaced."""
    found: list[tuple[int, ...] | None] = []
    for file in source.files:
        try:
            state = (data_dir / file.path).stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))
    return found


def require(name: str, data_dir: Path, known: Mapping[str, Dataset] = DATASETS) -> None:
    """Checks that data set `name` is ready.

    Raises:
        MissingDataError: it is missing.
        DataError: its content differs from the published one, or the data set is unknown.
    """
    status = check(name, data_dir, known)
    if status.state == "missing":
        raise missing_data(name, data_dir, known)
    if status.state == "broken" and known[name].folder:
        raise DataError(status.detail)
    if status.state == "broken":
        again = f"Fetch it again: `{fetch_command(name, data_dir)}`"
        todo = again if _has_url(known[name]) else "Restore it, or correct its sha256 in the space."
        raise DataError(f"data set '{name}' is damaged ({status.detail}); results would not be comparable. {todo}")


def missing_data(name: str, data_dir: Path, known: Mapping[str, Dataset] = DATASETS) -> MissingDataError:
    """Returns the error of a data set that is not on disk: the expected path, what may be it, and how to get it."""
    source = _source(name, known)
    if source.folder:
        return MissingDataError(check(name, data_dir, known).detail)
    if not source.files:
        return MissingDataError(f"data set '{name}' is {check(name, data_dir, known).detail}")
    urls = ", ".join(dict.fromkeys(file.url for file in source.files))
    fetch = f"Fetch it: `{fetch_command(name, data_dir)}` (from {urls})"
    todo = fetch if _has_url(source) else "Put it there, or give its folder by --data-dir."
    expected = next(iter(_absent(source, data_dir)), data_dir / source.files[0].path)
    return MissingDataError(
        f"data set '{name}' is not in {data_dir} (expected {expected}). {_hint(source, data_dir)}{todo}"
    )


def _has_url(source: Dataset) -> bool:
    return all(file.url for file in source.files)


def _hint(source: Dataset, data_dir: Path) -> str:
    """Names a file in the data folder that may be the first missing one, packed or in another place."""
    wanted = next((file for file in source.files if not os.path.isfile(data_dir / file.path)), None)
    if wanted is None:
        return ""
    name, archive = Path(wanted.path).name.lower(), wanted.url.rpartition("/")[2].lower()
    for folder, _, files in islice(os.walk(data_dir), SEARCHED):
        for file in sorted(files):
            if file.lower() in (f"{name}.gz", archive):
                return f"There is {Path(folder, file)}: unpack it as {data_dir / wanted.path}. "
            if file.lower() == name:
                return f"There is {Path(folder, file)}: move it to {data_dir / wanted.path}. "
    return ""


def fetch_command(name: str, data_dir: Path) -> str:
    """Returns the command that fetches data set `name`."""
    return f"lawn-tune data fetch {name} --data-dir {data_dir}"


def remedy(name: str, data_dir: Path) -> str:
    """Returns what to do about a data set that is not ready: the command that fetches it, or else where it belongs."""
    source = DATASETS[name]
    if source.folder:
        return f"Put its images or archives in {data_dir / source.folder}, as docs/data.md shows."
    return fetch_command(name, data_dir) if source.files else "pip install 'lawn-tune[train]'"


def fetch(
    name: str,
    data_dir: Path,
    progress: Callable[[str], ProgressBar] | None = None,
    known: Mapping[str, Dataset] = DATASETS,
) -> Status:
    """Fetches the missing or damaged files of data set `name`, all of them or none.

    Files are downloaded and verified in a temporary folder of `data_dir` and then moved, so an interrupted or rejected
    download does not change existing files.

    Args:
        name: of the data set; nothing is done if it is ready.
        data_dir: created if it does not exist.
        progress: called with each file's name; returns its bar.
        known: rows of data sets.

    Returns:
        The state afterwards.

    Raises:
        DataError: a download failed or has the wrong content; the message describes the manual download.
    """
    before = check(name, data_dir, known)
    if before.state != "ready" and known[name].folder:
        raise DataError(before.detail)
    wanted = [file for file in _source(name, known).files if not _intact(file, data_dir / file.path)]
    if before.state == "ready" or not wanted:
        return before
    failure = None
    try:
        _fetch_all(wanted, data_dir, progress)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        failure = f"{type(error).__name__}: {error}"
    if failure is not None:  # raised here, as the original error would keep its connection open
        raise DataError(_failure(name, data_dir, wanted, failure))
    return check(name, data_dir, known)


def fetch_once(name: str, data_dir: Path, known: Mapping[str, Dataset] = DATASETS) -> bool:
    """Fetches data set `name` if a file is missing or damaged; of concurrent processes one downloads, others wait.

    Returns:
        True if this process fetched it.

    Raises:
        DataError: see `fetch`; or the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with (data_dir / ".fetch.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if check(name, data_dir, known).state == "ready":
                return False
            fetch(name, data_dir, known=known)
            return True
    except OSError as error:
        raise DataError(f"data set '{name}' cannot be written to {data_dir}: {error.strerror}") from None


def _fetch_all(wanted: list[DataFile], data_dir: Path, progress: Callable[[str], ProgressBar] | None) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=data_dir) as scratch:
        contents = {file.path: _download(file, Path(scratch), progress) for file in wanted}
        for path, content in contents.items():
            (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(content, data_dir / path)


def _download(file: DataFile, scratch: Path, progress: Callable[[str], ProgressBar] | None) -> Path:
    pooch.get_logger().setLevel("WARNING")
    archive = file.url.rpartition("/")[2]
    unpacked = pooch.retrieve(
        file.url,
        known_hash=file.archive_hash,
        fname=archive,
        path=scratch,
        processor=_unpacking(archive, file.path),
        downloader=pooch.HTTPDownloader(progress(archive) if progress else False, CHUNK, timeout=TIMEOUT),
    )
    paths = [unpacked] if isinstance(unpacked, str) else unpacked
    if len(paths) != 1:
        raise ValueError(f"{archive} has no member {file.path}")
    content = Path(paths[0])
    if not _intact(file, content):
        raise ValueError(f"{file.path} in {archive} differs from the published content (checksum)")
    return content


def _unpacking(archive: str, member: str) -> Callable[..., object] | None:
    if archive.endswith(".zip"):
        return pooch.Unzip(members=[member])  # type: ignore[no-any-return]
    if archive.endswith(".tar.gz"):
        return pooch.Untar(members=[member])  # type: ignore[no-any-return]
    return pooch.Decompress(method="gzip") if archive.endswith(".gz") else None


def _intact(file: DataFile, path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        return _matches(file, path.read_bytes())
    except OSError:  # not readable by this user
        return False


def _matches(file: DataFile, content: bytes) -> bool:
    if file.sha256:
        return content_sha256(file, content) == file.sha256
    algorithm, _, expected = file.checksum.partition(":")
    if algorithm == "git":
        algorithm, content = "sha1", f"blob {len(content)}\0".encode() + content
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == expected


def content_sha256(file: DataFile, content: bytes) -> str:
    """Returns what `file.sha256` has to be for this content."""
    if file.any_order:
        content = b"".join(line + b"\n" for line in sorted(content.splitlines()))
    return hashlib.sha256(content).hexdigest()


def _failure(name: str, data_dir: Path, wanted: list[DataFile], failure: str) -> str:
    manually = "; ".join(f"{file.url}, unpacked, as {data_dir / file.path}" for file in wanted)
    return (
        f"data set '{name}' could not be fetched: {failure}. Nothing was changed in {data_dir}. Try again, or "
        f"download manually: {manually}; then `lawn-tune data check {name} --data-dir {data_dir}`"
    )


def _source(name: str, known: Mapping[str, Dataset]) -> Dataset:
    if name not in known:
        raise DataError(f"data set must be one of {', '.join(known)}, got '{name}'")
    return known[name]
