"""What keeps a local Ray from starting is named with the way out before Ray is imported, by the doctor too."""

from __future__ import annotations

import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lawn_tune.cli.doctor import ray as doctor_ray
from lawn_tune.cli.doctor.folders import own_folders
from lawn_tune.errors import UsageError
from lawn_tune.executors import surroundings
from lawn_tune.executors.build import build_executor
from lawn_tune.executors.slots import Slots
from lawn_tune.executors.surroundings import LONGEST_SOCKET, SOCKET, obstacles, prepare_local_ray, ray_folder
from lawn_tune.settings import Settings, resolve
from lawn_tune.storage import StorageUrl

NAMES = ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
NOT_UTF8 = os.fsdecode(b"caf\xe9")
ONE_JOB = Slots(count=1, cpus=1, gpus=0.0)
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def sound(monkeypatch: Patch, tmp_path: Path) -> None:
    """A machine on which Ray can start."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def long_folder(patch: Patch, folder: Path) -> None:
    patch.setenv("TMPDIR", f"/{'x' * (LONGEST_SOCKET - len(SOCKET) - 1)}")


def folder_below_a_file(patch: Patch, folder: Path) -> None:
    (folder / "file").touch()
    patch.setenv("RAY_TMPDIR", str(folder / "file"))
    patch.setattr(surroundings, "LONGEST_SOCKET", 4096)


def closed_folder(patch: Patch, folder: Path) -> None:
    patch.setattr(os, "access", lambda path, mode: not str(path).startswith("/tmp"))


def empty_token(patch: Patch, folder: Path) -> None:
    (folder / "token").write_text("\n")
    patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))


def odd_directory(patch: Patch, folder: Path) -> None:
    (folder / NOT_UTF8).mkdir()
    patch.chdir(folder / NOT_UTF8)


def little_address_space(patch: Patch, folder: Path) -> None:
    patch.setattr(resource, "getrlimit", lambda _: (4_096_000_000, resource.RLIM_INFINITY))


HARMS: dict[str, tuple[Callable[[Patch, Path], None], str, str]] = {
    "long": (long_folder, r"\(from TMPDIR\) is 1 bytes too long", "RAY_TMPDIR"),
    "not ASCII": (lambda patch, _: patch.setenv("TMPDIR", "/tmp/ü"), "/tmp/ü/ray .* not ASCII", "RAY_TMPDIR"),
    "not UTF-8": (lambda patch, _: patch.setenv("TMPDIR", f"/{NOT_UTF8}"), r"/caf\\xe9/ray .* not ASCII", "RAY_TMPDIR"),
    "relative": (lambda patch, _: patch.setenv("RAY_TMPDIR", "tmp"), "tmp/ray .* not an absolute", "RAY_TMPDIR"),
    "below a file": (folder_below_a_file, "file/ray .* may not be written", "RAY_TMPDIR"),
    "another user's": (closed_folder, "/tmp/ray may not be written by this user", "RAY_TMPDIR"),
    "no token": (lambda patch, _: patch.setenv("RAY_AUTH_TOKEN_PATH", "/none"), "'/none' .*No such file", "openssl"),
    "empty token": (empty_token, "token' of RAY_AUTH_TOKEN_PATH is empty", "openssl"),
    "odd directory": (odd_directory, r"working directory has a byte .* not UTF-8: b'.*caf\\xe9'", "another folder"),
    "address space": (little_address_space, r"ulimit -v\) is 4000000 kB", "unlimited"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMS)
def test_an_obstacle_is_named_with_the_way_out(name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    harm, detail, todo = HARMS[name]
    assert not obstacles()
    harm(monkeypatch, tmp_path)
    with pytest.raises(UsageError, match=detail) as caught:
        build_executor(Settings(executor="ray"), ONE_JOB)
    assert todo in str(caught.value.hint)
    assert "--executor inline" in str(caught.value.hint)
    for settings, state in ((Settings(), "fail"), (Settings(executor="inline"), "warn")):
        check, *_ = doctor_ray.local_ray(settings)  # another test may have a cluster on this machine
        assert (check.state, check.detail) == (state, caught.value.message)
        assert todo in check.todo


def test_a_folder_that_is_just_short_enough_is_none(monkeypatch: Patch) -> None:
    short = f"/{'x' * (LONGEST_SOCKET - len(SOCKET) - 2)}"
    monkeypatch.setenv("TMPDIR", short)
    assert not obstacles()
    assert len(f"{short}/{SOCKET}") == LONGEST_SOCKET


def test_the_folder_is_the_one_that_ray_takes(monkeypatch: Patch) -> None:
    utils = pytest.importorskip("ray._common.utils")
    assert ray_folder() == utils.get_default_ray_temp_dir()
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, f"/tmp/{name}")
        assert ray_folder() == utils.get_default_ray_temp_dir() == f"/tmp/{name}/ray"


def no_home(patch: Patch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    patch.delenv("HOME")
    patch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize(
    "harm", [no_home, lambda patch: patch.setenv("HOME", "/proc/1"), lambda patch: patch.setenv("HOME", ".")]
)
def test_without_a_home_a_launch_makes_a_token_of_its_own(harm: Callable[[Patch], None], monkeypatch: Patch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    harm(monkeypatch)
    assert "makes its own" in doctor_ray.ray_token(Settings())[0].detail
    (home, *_) = own_folders(Settings())
    assert (home.state, "HOME" in home.todo) == ("warn", True)
    prepare_local_ray()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_AUTH_TOKEN"] not in str(doctor_ray.ray_token(Settings()))


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_ray_is_imported_without_a_home(address: str | None, monkeypatch: Patch) -> None:
    """`import ray.tune` fails where `~` names nothing."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    no_home(monkeypatch)
    build_executor(Settings(executor="ray", ray_address=address), ONE_JOB)
    assert Path("~/ray_results").expanduser() == Path("/dev/null/ray_results")


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN", "mine"), ("RAY_AUTH_MODE", "disabled")])
def test_what_the_user_chose_stays(name: str, value: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "/proc/1")
    prepare_local_ray()
    assert os.environ[name] == value
    assert os.environ["RAY_AUTH_TOKEN"] in ("mine", "")


def test_another_ray_is_reported_and_no_obstacle(monkeypatch: Patch, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setattr(surroundings, "LONGEST_SOCKET", 4096)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (other,) = doctor_ray.local_ray(Settings())
    assert (other.state, "--ray-address auto" in other.detail) == ("ok", True)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    (other,) = doctor_ray.local_ray(Settings())
    assert (other.state, "10.0.0.1:6379" in other.detail) == ("ok", True)


def test_a_temporary_folder_that_is_missing_is_a_warning(monkeypatch: Patch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    assert [(check.name, check.state) for check in own_folders(Settings())] == [("home", "ok"), ("temp", "warn")]


def test_a_working_directory_that_was_removed_is_named(monkeypatch: Patch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    command = [sys.executable, "-c", "from lawn_tune.cli.main import main; main()", "status", "any"]
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | root, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (2, "error: the working directory was removed")
    monkeypatch.chdir(tmp_path)


def test_a_ledger_in_a_path_that_is_not_utf8_is_refused_before_it_is_made(monkeypatch: Patch, tmp_path: Path) -> None:
    odd_directory(monkeypatch, tmp_path)
    with pytest.raises(UsageError, match=r"not UTF-8: .*caf.udce9/lawn-tune\.db") as caught:
        StorageUrl.parse(resolve({}, environ={}).storage)
    assert "--storage" in str(caught.value.hint)


def test_the_doctor_names_every_obstacle_of_such_a_working_directory(monkeypatch: Patch, tmp_path: Path) -> None:
    odd_directory(monkeypatch, tmp_path)
    command = [sys.executable, "-m", "lawn_tune", "doctor"]
    settings = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
    failed = [line.split(":")[0] for line in ended.stdout.splitlines() if line.startswith("fail")]
    assert failed == ["fail  working directory", "fail  ledger"]
    assert "caf\\udce9 (work_dir, data_dir)" in ended.stdout
