"""A password given by the environment, and a search for it wherever a launch leaves traces."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.database import Database
from lawn_tune.storage import IN_ENVIRONMENT, forget
from tests.helpers.tiny import tiny_space

CANARY = f"canary{secrets.token_hex(8)}"
"""The password, another one in every run: other runs on this machine have theirs."""

SPACE = tiny_space(
    "Seconds a cell", width=4, confirm=[11], batch_size=32, epochs=10, peak_lr=[0.003, 0.01], weight_decay=[0.01]
)

GCS = """
import json, sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
spaces = [None, b"session", b"cluster", b"fun", b"tune", b"usage_stats", b"package", b"_ray_internal_job", b"job"]
keys = client.internal_kv_keys(b"", None)
found = [(key, client.internal_kv_get(key, space)) for space in spaces for key in keys]
jobs = [str(job) for job in client.get_all_job_info().values()]
print(json.dumps({"jobs": jobs, "store": [str(entry) for entry in found if entry[1] is not None]}))
"""
"""Asks a running Ray what it keeps of its drivers."""


@pytest.fixture
def guarded(postgres: str) -> Iterator[str]:
    """The URL, without its password, of a database that asks for one."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        (rules,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        before = Path(rules).read_text()
        Path(rules).write_text(f"local all guarded scram-sha-256\n{before}")
        connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{CANARY}'")
        connection.execute("CREATE DATABASE guarded OWNER guarded")
        connection.execute("SELECT pg_reload_conf()")
    url = postgres.replace("postgres:@/postgres", "guarded@/guarded")
    while _lets_in(url):  # the server reads its rules again in its own time
        time.sleep(0.01)
    yield url
    with psycopg.connect(postgres, autocommit=True) as connection:
        Path(rules).write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP DATABASE guarded WITH (FORCE)")
        connection.execute("DROP ROLE guarded")


def _lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


# --- where it might be ------------------------------------------------------------------------------------------------


def processes(what: str) -> dict[int, str]:
    """Process → a file of /proc of it, of every process that lets us look."""
    found = {}
    for file in Path("/proc").glob(f"[0-9]*/{what}"):
        try:
            found[int(file.parent.name)] = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended, or is another user's
    return found


def below(driver: int) -> set[int]:
    """The processes that a driver started, and theirs."""
    parents = {pid: int(stat.rpartition(")")[2].split()[1]) for pid, stat in processes("stat").items()}
    family = {driver}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return family - {driver}


def holding(folder: Path) -> list[str]:
    """The files below a folder that hold the password."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if CANARY.encode() in path.read_bytes()]


def gcs(lines: dict[int, str]) -> dict[str, list[str]]:
    """What Ray's own store holds, whose address is an argument of its processes."""
    word = next(word for line in lines.values() for word in line.split() if word.startswith("--gcs-address="))
    command = [sys.executable, "-c", GCS, word.partition("=")[2]]
    environment = os.environ | {"RAY_AUTH_MODE": "token"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout))


# --- the launch -------------------------------------------------------------------------------------------------------


class Study:
    """A folder with a space, and commands run there with the password in every place that takes one."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.started: list[subprocess.Popen[str]] = []
        self.ray = Path(tempfile.mkdtemp(prefix="lt-"))  # short: Ray makes sockets there
        (folder / "tiny.toml").write_text(SPACE)
        (folder / "lawn-tune.toml").write_text(f'storage = "{url}"\n')
        given = dict.fromkeys(IN_ENVIRONMENT, CANARY) | {"LAWN_TUNE_STORAGE": url}
        self.environment = os.environ | given | {"RAY_TMPDIR": str(self.ray), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lawn_tune.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Runs a command that ends well in this process."""
        result = CliRunner().invoke(app, arguments, env=self.environment)
        assert result.exit_code == 0, result.output.replace(CANARY, "PASSWORD")
        return result.output


@pytest.fixture
def study(guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    monkeypatch.chdir(tmp_path)
    study = Study(tmp_path, guarded)
    yield study
    for process in study.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    shutil.rmtree(study.ray, ignore_errors=True)


@pytest.mark.long
@pytest.mark.ray
def test_a_launch_through_ray_leaves_the_password_nowhere(study: Study) -> None:
    driver = study.start("launch", "tiny.toml", "--pack-size", "1", "--workers", "1", "--storage", study.url)
    deadline = time.monotonic() + 90
    while not _training(driver.pid):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGSTOP)  # it must not end while we look
    lines, family, environments = processes("cmdline"), below(driver.pid), processes("environ")
    assert len(family) > 3, "the raylet, Ray's store, a worker"
    assert [line for line in lines.values() if CANARY in line] == []
    assert [lines[pid] for pid in family if CANARY in environments.get(pid, "")] == []
    assert sum("RAY_TMPDIR" in environments.get(pid, "") for pid in family) >= 3, "what they inherited can be read"
    known = gcs({pid: lines[pid] for pid in family if pid in lines})
    assert any("lawn_tune.cli.main launch" in job for job in known["jobs"]), "Ray records its driver's command line"
    assert len(known["store"]) > 3
    assert CANARY not in json.dumps(known)
    driver.send_signal(signal.SIGCONT)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err.replace(CANARY, "PASSWORD")
    assert CANARY not in out + err
    assert list(study.ray.rglob("gcs_server*")) != []
    assert holding(study.ray) == []
    _commands_tell_nothing(study)
    assert holding(study.folder) == []


def _training(driver: int) -> bool:
    family, lines = below(driver), processes("cmdline")
    return any(lines.get(pid, "").startswith("ray::ImplicitFunc") for pid in family)


def _commands_tell_nothing(study: Study) -> None:
    shown = study.run("launch", "tiny.toml")
    assert "nothing to train" in shown
    for format in ("html", "md", "json"):
        shown += study.run("report", "tiny", "--format", format, "--output", f"report.{format}")
        assert (study.folder / f"report.{format}").stat().st_size > 100
    shown += study.run("export", "tiny", "--output", "trials.json") + study.run("status") + study.run("doctor")
    copied = study.run("ledger", "copy", study.url, "sqlite:///copy.db")
    assert "sha256" in copied
    assert "nothing to train" in study.run("launch", "tiny.toml", "--storage", "sqlite:///copy.db")
    assert CANARY not in shown + copied


# --- the ways to give it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "password", "reason"),
    [
        ("guarded@", "guarded@", f"{CANARY}x", "password authentication failed"),
        ("guarded@/guarded", "guarded@/nothing", CANARY, "does not exist"),
        ("?host=", "?host=/nowhere", CANARY, "No such file"),
    ],
    ids=["wrong password", "no database", "no server"],
)
def test_no_error_of_a_server_shows_it(
    guarded: str, monkeypatch: pytest.MonkeyPatch, before: str, after: str, password: str, reason: str
) -> None:
    monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(LedgerError, match=reason) as caught:
        open_ledger(guarded.replace(before, after))
    assert CANARY not in f"{caught.value!s}{caught.value!r}{caught.value.hint}"


@pytest.mark.parametrize("command", ["status", "launch", "doctor"])
def test_a_password_in_the_url_ends_a_command_unseen(tmp_path: Path, command: str) -> None:
    url = f"postgresql://guarded:{CANARY}@/guarded"
    words = [sys.executable, "-m", "lawn_tune.cli.main", command, *(["quickstart"] if command == "launch" else [])]
    for arguments, environment in ((["--storage", url], {}), ([], {"LAWN_TUNE_STORAGE": url})):
        done = subprocess.run(
            [*words, *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr.replace(CANARY, "PASSWORD")
        assert CANARY not in done.stdout + done.stderr
        assert all(way in done.stderr for way in ("PGPASSWORD", "~/.pgpass", "?service=NAME"))


def test_a_ledger_keeps_a_password_that_the_environment_no_longer_has(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in IN_ENVIRONMENT:
        monkeypatch.setenv(name, CANARY)
    database = Database(guarded)
    forget()
    assert not set(IN_ENVIRONMENT) & set(os.environ)
    for _ in range(2):
        with database.reading():
            pass
        database.engine.dispose()
    database.close()
    later = Database(guarded)
    with pytest.raises(LedgerError, match="no password supplied"), later.reading():
        pass
    later.close()


def test_a_password_file_of_libpq_will_do(guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:guarded:guarded:{CANARY}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    with open_ledger(guarded) as ledger:
        assert ledger.spaces() == ()


@pytest.mark.parametrize("named", ["by the URL", "by the environment"])
def test_a_service_file_of_libpq_will_do(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    folder = guarded.partition("?host=")[2]
    file = tmp_path / "services"
    file.write_text(f"[lawn]\nhost={unquote(folder)}\ndbname=guarded\nuser=guarded\npassword={CANARY}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    if named == "by the environment":
        monkeypatch.setenv("PGSERVICE", "lawn")
    with open_ledger("postgresql:///?service=lawn" if named == "by the URL" else "postgresql://") as ledger:
        assert ledger.spaces() == ()
        assert ledger.register([]) is None
