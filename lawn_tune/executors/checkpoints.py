"""Where packs' checkpoints are kept: a folder, or an object store that every machine of a cluster reaches."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from lawn_tune.settings.kinds import checkpoint_place


class Store(Protocol):
    """A place of checkpoints. A file is there whole or not at all."""

    @contextmanager
    def open(self, pack: str) -> Iterator[Path]:
        """Lends a local file that holds the pack's checkpoint if there is one; training replaces it.

        Raises:
            OSError: the place cannot be read.
        """
        ...

    def keep(self, pack: str, file: Path) -> None:
        """Brings what `open` lent to where other machines find it.

        Raises:
            OSError: the place cannot be written.
        """
        ...

    def remove(self, pack: str) -> None:
        """Removes the pack's checkpoint, if there is one.

        Raises:
            OSError: the place cannot be reached.
        """
        ...


def open_store(place: str) -> Store:
    """Returns the store at a folder's path or a URL.

    Args:
        place: a path, or a URL with one of `kinds.SCHEMES`; credentials come from the machine's role, variables or
            files.

    Raises:
        ValueError: no such URL; the text is the rule that it breaks.
    """
    if "://" not in place:
        return Folder(Path(place))
    url = urlsplit(checkpoint_place(place))
    return Folder(Path(unquote(url.path))) if url.scheme == "file" else Remote(place)


@contextmanager
def shared_token(place: str) -> Iterator[str]:
    """Puts a file into the folder at `place` for a while, by whose name others can check whether they see this folder.

    Returns:
        The file's name; "" for a URL, which means the same everywhere, and for a folder that takes no files.
    """
    store = open_store(place)
    name = f"launch-{os.getpid()}@{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    if not isinstance(store, Folder):
        yield ""
        return
    try:
        store.path.mkdir(parents=True, exist_ok=True)
        (store.path / name).touch()
    except OSError:
        name = ""
    try:
        yield name
    finally:
        if name:
            with suppress(OSError):
                (store.path / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Folder:
    """A folder: of one machine, or of a file system that machines share."""

    path: Path

    @contextmanager
    def open(self, pack: str) -> Iterator[Path]:
        """See `Store.open`."""
        yield self.path / f"{pack}.safetensors"

    def keep(self, pack: str, file: Path) -> None:
        """It lies there already."""

    def remove(self, pack: str) -> None:
        """See `Store.remove`."""
        (self.path / f"{pack}.safetensors").unlink(missing_ok=True)


@dataclass(frozen=True)
class Remote:
    """An object store, through pyarrow; one write of an object shows it whole.

    Args:
        url: as `pyarrow.fs.FileSystem.from_uri` takes it.
    """

    url: str

    @contextmanager
    def open(self, pack: str) -> Iterator[Path]:
        """See `Store.open`."""
        with tempfile.TemporaryDirectory(prefix="lawn-tune-checkpoint-") as folder:
            file = Path(folder) / f"{pack}.safetensors"
            system, path = self._at(pack)
            if self._there(system, path):
                with system.open_input_stream(path) as source, file.open("wb") as target:
                    while block := source.read(1 << 20):
                        target.write(block)
            yield file

    def keep(self, pack: str, file: Path) -> None:
        """See `Store.keep`."""
        system, path = self._at(pack)
        objects = system.type_name in ("s3", "gcs", "abfs")
        draft = path if objects else f"{path}.{os.getpid()}.draft"
        if not objects:
            system.create_dir(path.rpartition("/")[0], recursive=True)
        with system.open_output_stream(draft) as target:
            target.write(file.read_bytes())
        if not objects:
            system.move(draft, path)

    def remove(self, pack: str) -> None:
        """See `Store.remove`."""
        system, path = self._at(pack)
        if self._there(system, path):
            system.delete_file(path)

    def _at(self, pack: str) -> tuple[Any, str]:
        try:
            from pyarrow.fs import FileSystem  # comes with Ray; a launch into a folder does without

            system, path = FileSystem.from_uri(self.url)
        except (ImportError, ValueError) as error:
            raise OSError(str(error)) from None
        return system, f"{path.rstrip('/')}/{pack}.safetensors"

    @staticmethod
    def _there(system: Any, path: str) -> bool:
        return bool(system.get_file_info(path).is_file)
