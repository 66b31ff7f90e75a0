"""What a Ray on this machine needs of its surroundings, looked at before it starts: it names few of them itself."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

from lawn_tune.errors import UsageError
from lawn_tune.executors.machine import memory

LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path on Linux."""

SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""Ray's longest one, below its temporary folder."""

STORE_SHARE, LARGEST_STORE, BESIDE_STORE = 0.3, 200 * 10**9, 2 * 2**30
"""Share of the memory that Ray maps for its objects, its maximum in bytes, and bytes of address space for the rest of
such a process. On 23 GiB it did not start with 8 GB and did with 12 GB."""

OTHER_FOLDER = "Set RAY_TMPDIR to a folder of yours with a short ASCII name, such as /var/tmp/NAME."
NEW_TOKEN = (
    "Write one (openssl rand -hex 32 > FILE; chmod 600 FILE), or unset RAY_AUTH_TOKEN_PATH: a local Ray needs none."
)
OWN_TOKEN = "Give the head's token: RAY_AUTH_MODE=token, and its ~/.ray/auth_token here or at RAY_AUTH_TOKEN_PATH."
INLINE = "Without Ray: --executor inline."


class Obstacle(NamedTuple):
    """Why Ray cannot start here.

    Args:
        name: what is looked at.
        detail: what is wrong with it.
        todo: the way out.
    """

    name: str
    detail: str
    todo: str


def obstacles() -> list[Obstacle]:
    """Returns what keeps a local Ray from starting; RAY_ADDRESS and other Rays do not."""
    found = (_working_directory(), _folder(), _token_file(), _address_space())
    return [obstacle for obstacle in found if obstacle is not None]


def prepare_local_ray() -> None:
    """Leaves the environment so that a local Ray can start.

    Raises:
        UsageError: it cannot.
    """
    for obstacle in obstacles():
        raise UsageError(f"Ray cannot start here: {obstacle.detail}", f"{obstacle.todo} {INLINE}")
    if token_place() is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # of this launch only; Ray would fail to write one


def ensure_home() -> None:
    """Leaves the environment so that Ray's libraries can be imported: they ask for a home, and write nothing there."""
    try:
        Path.home()
    except RuntimeError:  # neither HOME nor an entry in passwd
        os.environ["HOME"] = os.devnull


def token_place() -> str | None:
    """Returns where a local Ray has its token or can write one; None if there is no such place."""
    given = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)
    if given or not _by_token():
        return given or "RAY_AUTH_MODE"
    try:
        path = Path.home() / ".ray" / "auth_token"
    except RuntimeError:  # neither HOME nor an entry in passwd
        return None
    usable = os.access(path, os.R_OK) if os.path.exists(path) else _writable(path.parent)
    return str(path) if usable and path.is_absolute() else None


def ray_folder() -> str:
    """Returns Ray's temporary folder, by Ray's rule."""
    return os.path.join(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp")), "ray")


def cluster_hint(reason: str) -> str:
    """Returns what to do about a cluster that cannot be joined.

    Args:
        reason: what Ray raised.
    """
    if "ersion mismatch" in reason:
        return "Install here the Ray of the cluster (pip install 'ray[tune]==VERSION') under the same Python."
    if "oken" in reason or "nauthenticated" in reason or "Failed to connect" in reason:
        return OWN_TOKEN  # something listens there: most often a head that has another one
    if "No module named" in reason:
        return "pip install 'lawn-tune[ray]'"
    return "Check host and port (Ray's own is 6379) and that the head runs: ray status on its machine."


def _working_directory() -> Obstacle | None:
    here = os.fsencode(os.getcwd())
    try:
        here.decode()
    except UnicodeDecodeError:
        detail = f"the working directory has a byte in its path that is not UTF-8: {here!r}"
        return Obstacle("working directory", detail, "Rename it, or give the command in another folder.")
    return None


def _folder() -> Obstacle | None:
    """Whether Ray can have its sockets in its temporary folder."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    folder = ray_folder()
    shown = f"its temporary folder {os.fsencode(folder).decode('utf-8', 'backslashreplace')}" + (
        f" (from {name})" if name else ""
    )
    size = len(os.fsencode(os.path.join(os.path.dirname(folder), SOCKET)))
    if not os.path.isabs(folder):
        wrong = "is not an absolute path"
    elif not folder.isascii():
        wrong = "has a character that is not ASCII"
    elif size > LONGEST_SOCKET:
        wrong = f"is {size - LONGEST_SOCKET} bytes too long for the sockets in it"
    elif not _writable(Path(folder)):
        wrong = "may not be written by this user"
    else:
        return None
    return Obstacle("ray folder", f"{shown} {wrong}", OTHER_FOLDER)


def _by_token() -> bool:
    """Whether Ray lets in those with its token only, which is its default."""
    return os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"


def _token_file() -> Obstacle | None:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not path or os.environ.get("RAY_AUTH_TOKEN") or not _by_token():
        return None
    try:
        if Path(path).read_text().strip():
            return None
        wrong = "is empty"
    except (OSError, ValueError) as error:
        wrong = f"cannot be read ({getattr(error, 'strerror', None) or 'not text'})"
    return Obstacle("ray token", f"the file '{path}' of RAY_AUTH_TOKEN_PATH {wrong}", NEW_TOKEN)


def _address_space() -> Obstacle | None:
    """Whether `ulimit -v` leaves room for what Ray maps, if not uses."""
    if os.name != "posix":
        return None
    import resource  # absent on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = min(STORE_SHARE * memory(), LARGEST_STORE) + BESIDE_STORE
    if limit == resource.RLIM_INFINITY or limit >= least:
        return None
    detail = f"the limit of address space (ulimit -v) is {limit // 1024} kB, and Ray maps about {least / 2**30:.0f} GiB"
    return Obstacle(
        "address space", detail, "Remove it (ulimit -v unlimited); limit memory by a control group instead."
    )


def _writable(folder: Path) -> bool:
    """Whether this user may write a folder, or make it in the nearest one above it that is there."""
    place = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
