"""The modules of a user's workload or optimizer class, imported from the sources that travel with a launch."""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from trainables.workloads.own_errors import FOLDER, WorkloadError, users


def code_digest(archive: bytes) -> str:
    """Returns the digest of the source files of an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.comment.decode()


def import_code(archive: bytes, code: str) -> None:
    """Imports the module of a workload or a class, so that `pkgutil.resolve_name` finds it.

    It replaces what was imported from another archive: two spaces may both have a `model.py`.

    Args:
        archive: the source files, as a .zip.
        code: "module:Class".

    Raises:
        WorkloadError: the module raises, or a module of this process has its name.
    """
    folder, name = _folder(archive), code.partition(":")[0]
    for other in [path for path in sys.path if FOLDER in path and path != folder]:
        sys.path.remove(other)
    for known in [known for known, module in list(sys.modules.items()) if _is_of_another(module, folder)]:
        del sys.modules[known]
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    with users(f"import of {name}"):
        file = importlib.import_module(name).__file__ or ""
    if not Path(file).is_relative_to(folder):
        raise WorkloadError(f"a module of this process has the name {name}, {file}: rename the file")


def _is_of_another(module: ModuleType, folder: str) -> bool:
    file = getattr(module, "__file__", None) or ""
    return FOLDER in file and not Path(file).is_relative_to(folder)


_folders: dict[bytes, TemporaryDirectory[str]] = {}
"""Archive → the folder that it was extracted to, which ends with this process."""


def _folder(archive: bytes) -> str:
    if archive not in _folders:
        folder = _folders[archive] = TemporaryDirectory(prefix=FOLDER)
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            opened.extractall(folder.name)
    return _folders[archive].name
