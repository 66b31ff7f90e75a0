"""The compiled kernels of this machine: kernels.c is compiled on request, once per machine, and only loaded afterwards.

The lookup of kernels starts no compiler or other program. A loaded file is executed, so it must be in a folder that
belongs to this user and that nobody else can write to, and its content must match the hash in its name.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")
SWITCH = "LAWN_TUNE_KERNELS"
"""Environment variable: 0 disables the kernels, built or not, and CUDA graphs."""

COMPILE_SECONDS = 120.0
"""Time limit of the compiler, and of waiting for another process that compiles; it usually takes about one second."""

_log = logging.getLogger(__name__)


@cache
def kernels() -> ctypes.CDLL | None:
    """Returns the kernels compiled for this machine, loaded once per process; None if there are none."""
    if disabled() or os.name != "posix":
        return None
    with suppress(OSError):
        name = _name()
        for folder in _folders():
            for path in sorted(folder.glob(f"{name}-*.so")) if _trusted(folder) else ():
                if (library := _loaded(path)) is not None:
                    return library
    return None


def build_kernels(log: Callable[[str], None] | None = None) -> bool:
    """Compiles the kernels unless they exist; of concurrent processes, one compiles and the others wait.

    Args:
        log: called with one line if kernels were compiled, or with the reason if not; None for this module's logger.

    Returns:
        True if kernels exist now, for this process and later ones of this user on this machine.
    """
    if kernels() is not None:
        return True
    if disabled():
        reason = f"{SWITCH}=0"
    else:
        try:
            _build(log or _log.info)
            return True
        except (OSError, subprocess.SubprocessError) as error:
            reason = _reason(error)
    (log or _log.warning)(f"no compiled optimizer kernels on this machine, using torch operations: {reason}")
    return False


def disabled() -> bool:
    """True if the environment asks for plain torch operations: no kernels, and on GPUs no graphs either."""
    return os.environ.get(SWITCH) == "0"


# --- lookup -----------------------------------------------------------------------------------------------------------


def _name() -> str:
    """Returns a name that depends on the source, flags and machine: a home folder may be shared by different machines.

    The compiler is not included: kernels stay valid when it is upgraded or removed.
    """
    libc = "-".join(platform.libc_ver())
    parts = [SOURCE.read_text(), *FLAGS, sys.platform, platform.machine(), libc, _cpu()]
    return f"kernels-{_digest(chr(10).join(parts).encode())}"


def _cpu() -> str:
    """Returns the CPU properties that -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.node()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _folders() -> list[Path]:
    """Returns the folders for kernels: this user's cache, then a temporary folder for users without a usable home."""
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    folders = []
    with suppress(RuntimeError, OSError):  # no home folder
        home = Path(cache_home) if os.path.isabs(cache_home) else Path.home() / ".cache"
        if home.is_absolute():  # a relative HOME would be another folder in each working directory
            folders.append((home / "lawn_tune").resolve())
    with suppress(OSError):  # no temporary folder
        folders.append(Path(tempfile.gettempdir()) / f"lawn-tune-{os.getuid()}")
    return folders


def _trusted(path: Path) -> bool:
    """True for a file or folder that belongs to this user and that others cannot write to; links are not followed."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _loaded(path: Path) -> ctypes.CDLL | None:
    """Loads one file; None if it is not as `_compile` wrote it, since the loader may crash on a damaged file."""
    try:
        if not _trusted(path) or not path.stem.endswith(f"-{_digest(path.read_bytes())}"):
            return None
        library = ctypes.CDLL(str(path))
    except OSError as error:
        _log.info("%s cannot be loaded: %s", path, error)
        return None
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    library.lawn_tune_step.argtypes = [ctypes.c_int, size, size, *[pointer] * 10, ctypes.c_int]
    library.lawn_tune_step.restype = None
    return library


# --- building ---------------------------------------------------------------------------------------------------------


def _build(log: Callable[[str], None]) -> None:
    """Compiles into the first folder from which the result can be loaded.

    Raises:
        OSError, subprocess.SubprocessError: there is no such folder, or no working compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.name != "posix":
        raise FileNotFoundError("no C compiler (cc, gcc, clang) on the PATH")
    failure: Exception = FileNotFoundError("neither a home folder nor a temporary folder")
    for folder in _folders():
        try:
            began = time.monotonic()
            compiled = _compile_once(compiler, folder)
            kernels.cache_clear()
            if kernels() is None:
                raise OSError(f"the output of {compiler} in {folder} cannot be loaded")
        except (OSError, subprocess.SubprocessError) as error:
            failure = error
        else:
            if compiled:
                log(f"compiled the optimizer kernels for this machine in {time.monotonic() - began:.1f} s")
            return
    raise failure


def _compile_once(compiler: str, folder: Path) -> bool:
    """Creates a folder and compiles the kernels into it; False if another process did so meanwhile."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _trusted(folder):
        raise PermissionError(f"{folder} belongs to another user, or others can write to it")
    name = _name()
    with _exclusive(folder):
        if any(_loaded(path) is not None for path in folder.glob(f"{name}-*.so")):
            return False
        _compile(compiler, folder, name)
    return True


def _compile(compiler: str, folder: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="draft-", dir=folder) as scratch:
        draft = Path(scratch) / "kernels.so"
        command = [compiler, *FLAGS, "-o", str(draft), str(SOURCE), "-lm"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=COMPILE_SECONDS)
        draft.chmod(0o700)  # a umask may let a group write to it
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(folder / f"{name}-{_digest(draft.read_bytes())}.so")  # atomic


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder; continues without it if locks are unsupported or its holder hangs."""
    import fcntl  # absent on Windows, where there are no kernels

    handle, end = os.open(folder, os.O_RDONLY), time.monotonic() + COMPILE_SECONDS
    try:
        while time.monotonic() < end:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    """Returns one line: the last of the output if the compiler failed."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return f"{error.cmd[0]}: {lines[-1] if lines else f'exit status {error.returncode}'}"
    return " ".join(str(error).split())
