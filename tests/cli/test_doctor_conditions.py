"""What the doctor says of machines that are not well: real folders, real servers, and what drivers leave in /proc."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import big_ledger
from lawn_tune.cli.checks import Check
from lawn_tune.cli.doctor import database, devices, folders, ray
from lawn_tune.errors import UsageError
from lawn_tune.executors import surroundings
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.copying import copy_ledger
from lawn_tune.settings import Settings, resolve
from lawn_tune.storage import StorageUrl

NOBODY = 65534


def settings(**flags: Any) -> Settings:
    return resolve(flags, environ={})


# --- GPUs -------------------------------------------------------------------------------------------------------------

CPU_BUILD: dict[str, Any] = {"version": "2.9.0+cpu", "cuda": None, "rocm": None, "gpus": []}
CUDA_BUILD: dict[str, Any] = {"version": "2.9.0", "cuda": "13.0", "rocm": None, "gpus": []}
WORKING = CUDA_BUILD | {"gpus": ["A GPU"]}


@pytest.mark.parametrize(
    ("gpus", "nccl", "flags", "states"),
    [
        (1, True, {}, []),
        (1, True, {"gpus_per_trial": "2"}, ["fail"]),
        (1, True, {"gpus_per_trial": "2", "ray_address": "auto"}, []),
        (4, False, {"gpus_per_trial": "2"}, ["fail"]),
        (4, True, {"gpus_per_trial": "4"}, ["ok"]),
    ],
)
def test_the_doctor_knows_whether_a_trial_can_have_several_gpus(
    gpus: int, nccl: bool, flags: dict[str, str], states: list[str]
) -> None:
    found = WORKING | {"gpus": ["A GPU"] * gpus, "nccl": nccl}
    assert [check.state for check in devices.gpus_per_trial(found, settings(**flags))] == states


@pytest.mark.parametrize(
    ("found", "nvidia", "amd", "visible", "detail", "todo"),
    [
        (CPU_BUILD, 0, False, None, "", ""),
        (WORKING, 1, False, None, "", ""),
        (WORKING, 2, False, "0", "", ""),
        (WORKING, 1, True, None, "", ""),
        (CPU_BUILD, 2, False, None, "2 NVIDIA GPUs here, but torch 2.9.0+cpu is built without CUDA", "CUDA build"),
        (CUDA_BUILD, 1, False, None, "1 NVIDIA GPU here, but torch, built for CUDA 13.0, cannot use one", "nvidia-smi"),
        (CUDA_BUILD, 1, False, "", "CUDA_VISIBLE_DEVICES='' hides all", "unset CUDA_VISIBLE_DEVICES"),
        (CUDA_BUILD, 1, False, "-1", "CUDA_VISIBLE_DEVICES='-1' hides all", "unset CUDA_VISIBLE_DEVICES"),
        (CPU_BUILD, 0, True, None, "an AMD GPU is here", "ROCm"),
    ],
)
def test_gpus_that_would_not_train_are_printed_of(
    found: dict[str, Any],
    nvidia: int,
    amd: bool,
    visible: str | None,
    detail: str,
    todo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for i in range(nvidia):
        (tmp_path / "gpus" / f"0000:0{i}:00.0").mkdir(parents=True)
    if amd:
        (tmp_path / "kfd").touch()
    monkeypatch.setattr(devices, "NVIDIA", tmp_path / "gpus")
    monkeypatch.setattr(devices, "AMD", tmp_path / "kfd")
    checks = devices.unused_gpus(found, visible)
    assert [check.state for check in checks] == (["warn"] if detail else [])
    for check in checks:
        assert detail in check.detail
        assert todo in check.todo


# --- folders ----------------------------------------------------------------------------------------------------------


def as_nobody(action: Callable[[], list[Check]]) -> list[Check]:
    """Does it in a child process without the rights of root, whom no folder is closed to."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writing, json.dumps([vars(check) for check in action()]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        printed = pipe.read()
    os.waitpid(child, 0)
    return [Check(**values) for values in json.loads(printed)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that anybody can reach, for folders that not everybody can write."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("closed", "state", "todo"),
    [("work", "fail", "--work-dir"), ("ledger", "fail", "--storage"), ("data", "warn", "none fetched")],
)
def test_a_folder_that_may_not_be_written_is_printed_of(place: Path, closed: str, state: str, todo: str) -> None:
    for name in ("work", "ledger", "data"):
        (place / name).mkdir()
        (place / name).chmod(0o555 if name == closed else 0o777)
    here = settings(
        work_dir=str(place / "work"), data_dir=str(place / "data"), storage=f"sqlite:///{place}/ledger/x.db"
    )
    found = {check.detail: check for check in as_nobody(lambda: folders.disk(here))}
    (bad,) = [check for check in found.values() if check.state != "ok"]
    assert bad.state == state
    assert f"{place / closed} (" in bad.detail
    assert "may not be written by this user" in bad.detail
    assert todo in bad.todo


def test_a_folder_that_may_not_be_looked_into_is_printed_of(place: Path) -> None:
    (place / "locked").mkdir(mode=0o700)
    (place / "locked" / "work").mkdir()
    (place / "locked").chmod(0o000)
    here = settings(work_dir=str(place / "locked" / "work"), data_dir=str(place / "locked"))
    checks = as_nobody(lambda: folders.disk(here))
    (place / "locked").chmod(0o700)
    assert any(check.state == "fail" and "locked" in check.detail for check in checks)


def test_a_ray_folder_of_another_user_is_printed_of(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "ray").mkdir(mode=0o755)
    (place / "ray").chmod(0o555)
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    monkeypatch.setattr(surroundings, "LONGEST_SOCKET", 4096)
    ray.local_ray(settings())  # imports what the other user may not read
    (check,) = as_nobody(lambda: ray.local_ray(settings()))
    assert check.state == "fail"
    assert f"{place}/ray (from RAY_TMPDIR) may not be written by this user" in check.detail
    assert "RAY_TMPDIR" in check.todo


def test_a_file_in_the_place_of_a_folder_is_printed_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checks = folders.disk(settings(work_dir=str(tmp_path / "file"), data_dir=str(tmp_path)))
    assert [check.state for check in checks if "file (work_dir) is not a folder" in check.detail] == ["fail"]


# --- ledgers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "detail", "todo"),
    [
        ("/postgres?", "/nothing?", 'database "nothing" does not exist', "createdb 'nothing'"),
        ("postgres:@", "nobody_here@", 'role "nobody_here" does not exist', "createuser 'nobody_here'"),
        ("?host=", "?host=/nowhere", "No such file", "pg_isready"),
        ("@/postgres?host=", "@127.0.0.1:1/postgres?application_name=", "refused", "pg_isready"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_printed_of(
    postgres: str, before: str, after: str, detail: str, todo: str
) -> None:
    assert before in postgres
    (check,) = database.ledger(settings(storage=postgres.replace(before, after)))
    assert check.state == "fail"
    assert detail in check.detail
    assert todo in check.todo


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "postgresql+asyncpg", "postgresql+pg8000"])
def test_another_driver_is_printed_what_to_write_instead(scheme: str) -> None:
    with pytest.raises(UsageError, match=scheme.replace("+", r"\+")) as caught:
        StorageUrl.parse(f"{scheme}://me@host/db")
    assert "Write postgresql://" in str(caught.value.hint)
    for good in ("postgres", "postgresql", "postgresql+psycopg"):
        assert StorageUrl.parse(f"{good}://me@host/db").kind == "postgresql"


@pytest.mark.parametrize(
    ("ahead", "state", "word"), [(0.0, "ok", ""), (60.0, "warn", "ahead of"), (-60.0, "warn", "behind")]
)
def test_clocks_that_differ_are_printed_of(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, ahead: float, state: str, word: str
) -> None:
    now = database.now
    monkeypatch.setattr(database, "now", lambda: now() + ahead)
    check = {check.name: check for check in database.ledger(settings(storage=postgres_url))}["clocks"]
    assert check.state == state
    assert word in check.detail
    assert state == "ok" or "NTP" in check.todo


def test_a_copy_that_was_not_finished_is_printed_of(tmp_path: Path) -> None:
    big_ledger.write(f"sqlite:///{tmp_path}/a.db", trials=12, epochs=2)
    target = f"sqlite:///{tmp_path}/b.db"

    def stop(*progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_ledger(f"sqlite:///{tmp_path}/a.db", target, stop)
    check = database.ledger(settings(storage=target))[-1]
    assert (check.state, "ledger copy FROM TO" in check.todo) == ("fail", True)


def test_an_older_ledger_is_a_warning(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ledger(sqlite_url).close()
    monkeypatch.setattr(database, "REVISION", "9999")
    monkeypatch.setattr("lawn_tune.ledger.schema.REVISION", "9999")
    check = database.ledger(settings(storage=sqlite_url))[-1]
    assert check.state == "warn"
    assert "lawn-tune ledger upgrade" in check.todo


# --- Ray --------------------------------------------------------------------------------------------------------------


def answered(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> Check:
    """What the doctor makes of an answer of the process that asks a cluster."""
    ended = subprocess.CompletedProcess([], 0, stdout=f"noise\n{json.dumps(found)}\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: ended)
    return ray.cluster("auto")


MISMATCH = """RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.59.0
    Python: 3.12.1
This process on node was started with:
    Ray: 2.60.0"""


@pytest.mark.parametrize(
    ("error", "todo"),
    [
        (MISMATCH, "ray[tune]==VERSION"),
        ("ConnectionError: Failed to connect to Ray cluster at 10.0.0.1:6379", "RAY_AUTH_MODE=token"),
        ("ModuleNotFoundError: No module named 'ray'", "pip install"),
        ("ConnectionError: Could not find any running Ray instance", "ray status"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_printed_of(monkeypatch: pytest.MonkeyPatch, error: str, todo: str) -> None:
    check = answered(monkeypatch, {"error": error})
    assert check.state == "fail"
    assert " ".join(error.split())[:60] in check.detail
    assert todo in check.todo


def test_a_cluster_that_answers_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    check = answered(monkeypatch, {"nodes": 3, "resources": {"CPU": 16.0, "GPU": 4.0}})
    assert (check.state, check.detail) == ("ok", "auto: 3 nodes, 16 CPU, 4 GPU, same versions")


def test_nothing_at_the_address_is_found_out_at_once() -> None:
    check = ray.cluster("127.0.0.1:1")
    assert check.state == "fail"
    assert "refused" in check.detail


def test_a_cluster_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "RAY", "import time; time.sleep(60)")
    monkeypatch.setattr(ray, "RAY_SECONDS", 0.5)
    check = ray.cluster("auto")
    assert (check.state, check.detail) == ("fail", "auto: no answer in 0.5 s")
