"""The doctor: one line a check, what to do where it is not well, and a failure only for what stands in the way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lawn_tune.cli.checks import Check
from lawn_tune.cli.doctor import command, database, devices, folders, packages, ray
from lawn_tune.cli.main import app
from lawn_tune.ledger import open_ledger
from lawn_tune.settings import SETTINGS, Settings, resolve
from trainables.catalogue.datasets import DATASETS


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [*(setting.variable for setting in SETTINGS), "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"]:
        monkeypatch.delenv(name, raising=False)


def settings(**flags: Any) -> Settings:
    return resolve(flags, environ={})


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *args])


def states(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the slow check; it has tests of its own."""
    monkeypatch.setattr(command, "PARTS", tuple(part for part in command.PARTS if part is not devices.torch))


@pytest.mark.usefixtures("no_torch")
def test_a_sound_machine_passes_and_the_forms_agree() -> None:
    document = json.loads(run("--json").stdout)
    assert document["ok"] is True
    result = run()
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert len(lines) == len(document["checks"])
    for line, check in zip(lines, document["checks"], strict=True):
        assert line.startswith(f"{check['state']:4}  {check['name']}: ")
    assert {f"data {name}" for name, row in DATASETS.items() if row.bundled} <= {
        check["name"] for check in document["checks"]
    }
    assert all(check["todo"] for check in document["checks"] if check["state"] != "ok")
    assert not list(Path().iterdir()), "the doctor leaves nothing behind"


def test_torch_is_imported_in_a_process_of_its_own() -> None:
    (check,) = devices.torch(settings())
    assert check.state == "ok"
    assert "thread" in check.detail


@pytest.mark.parametrize(
    ("code", "error", "detail"),
    [
        (
            1,
            "Traceback (most recent call last):\nModuleNotFoundError: No module named 'torch'",
            "No module named 'torch'",
        ),
        (-11, "", "exit code -11"),
    ],
)
def test_a_torch_that_does_not_import_fails(
    monkeypatch: pytest.MonkeyPatch, code: int, error: str, detail: str
) -> None:
    ended = subprocess.CompletedProcess([], code, stdout="", stderr=error)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ended)
    (check,) = devices.torch(settings())
    assert check.state == "fail"
    assert detail in check.detail
    assert check.todo


def test_a_torch_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    (check,) = devices.torch(settings())
    assert (check.state, check.detail) == ("fail", "no answer in 120 s")


@pytest.mark.parametrize("name", packages.PACKAGES)
def test_a_package_that_is_not_there_counts_as_the_table_says(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(packages, "installed", lambda _: None)
    found = {check.name: check for check in packages.packages(settings())}[name]
    assert found.state == packages.PACKAGES[name]
    assert "not installed" in found.detail


@pytest.mark.parametrize(
    ("version", "state"), [("2.58.9", "fail"), ("1.99", "fail"), ("2.59.0", "ok"), ("2.60.0rc1", "ok"), ("3.0", "ok")]
)
def test_ray_has_to_be_recent(monkeypatch: pytest.MonkeyPatch, version: str, state: str) -> None:
    monkeypatch.setattr(packages, "installed", lambda _: version)
    found = {check.name: check for check in packages.packages(settings())}["ray"]
    assert found.state == state
    assert version in found.detail


def test_the_token_is_spoken_of_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray, "installed", lambda _: "2.60.0")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "none yet" in ray.ray_token(settings())[0].detail
    monkeypatch.setenv("RAY_AUTH_TOKEN", "s3cr3t")
    assert ray.ray_token(settings()) == [Check("ray token", "ok", "in place")]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert states(ray.ray_token(settings())) == {"ray token": "warn"}
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("s3cr3t")
    assert ray.ray_token(settings()) == [Check("ray token", "ok", "in place")]
    monkeypatch.setattr(ray, "installed", lambda _: None)
    assert ray.ray_token(settings()) == []


def test_a_disk_that_is_almost_full_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "FEW_BYTES", 10**18)
    assert set(states(folders.disk(settings())).values()) == {"warn"}


def test_folders_that_do_not_exist_yet_count_where_they_will_be(tmp_path: Path) -> None:
    (check,) = folders.disk(settings(work_dir="a/b", data_dir="c", storage=f"sqlite:///{tmp_path}/x.db"))
    assert check.state == "ok"
    assert f"free in {tmp_path} (work_dir, data_dir, storage)" in check.detail


def test_a_ledger_to_come_one_that_is_there_and_one_that_is_none(tmp_path: Path) -> None:
    place = settings(storage=f"sqlite:///{tmp_path}/x.db")
    assert "will be made by the first launch" in database.ledger(place)[-1].detail
    open_ledger(place.storage).close()
    there = database.ledger(place)[-1]
    assert there.state == "ok"
    assert "answers and may be written (schema " in there.detail
    (tmp_path / "x.db").write_bytes(b"this is no database" * 100)
    broken = database.ledger(place)[-1]
    assert broken.state == "fail"
    assert "not a database" in broken.detail
    assert broken.todo


@pytest.mark.parametrize(
    ("storage", "detail"),
    [
        ("sqlite:///no/folder/x.db", "there is no folder"),
        ("postgresql://me@127.0.0.1:1/db", "127.0.0.1"),
    ],
)
@pytest.mark.usefixtures("no_torch")
def test_a_ledger_out_of_reach_fails_the_doctor(storage: str, detail: str) -> None:
    result = run("--json", "--storage", storage)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["ok"] is False
    (failed,) = [check for check in document["checks"] if check["state"] == "fail"]
    assert detail in failed["detail"]
    assert failed["todo"]


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("storage", ["mysql://me:s3cr3t@host/db", "postgresql://me:s3cr3t@127.0.0.1:1/db"])
def test_a_password_in_the_url_is_refused_and_not_shown(storage: str) -> None:
    result = run("--json", "--storage", storage)
    assert result.exit_code == 2
    assert "s3cr3t" not in result.output


def test_sqlite_on_a_network_disk_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lawn_tune.ledger.database.file_system", lambda path: "nfs4")
    (check,) = database.ledger(settings(storage=f"sqlite:///{tmp_path}/x.db"))
    assert check.state == "fail"
    assert "nfs4" in check.detail
    assert "PostgreSQL" in check.todo


def test_data_that_is_missing_is_a_warning_and_damaged_data_a_failure(tmp_path: Path) -> None:
    *here, missing = folders.datasets(settings())
    assert states(here) == {f"data {name}": "ok" for name, row in DATASETS.items() if row.bundled}
    assert (missing.name, missing.state) == ("data", "warn")
    assert missing.detail == f"not in data: {', '.join(name for name, row in DATASETS.items() if not row.bundled)}"
    assert "lawn-tune data fetch NAME --data-dir data" in missing.todo
    (tmp_path / "data" / "ml-100k").mkdir(parents=True)
    (tmp_path / "data" / "ml-100k" / "u.data").write_text("1\t2\t3\t4\n")
    found = {check.name: check for check in folders.datasets(settings())}["data movielens-100k"]
    assert found.state == "fail"
    assert "lawn-tune data fetch movielens-100k" in found.todo


def test_a_bad_settings_file_is_a_usage_error() -> None:
    Path("lawn-tune.toml").write_text("worker = 1")
    result = run()
    assert result.exit_code == 2
    assert "lawn-tune.toml: worker: unknown key" in result.stderr
