"""`lawn-tune dashboard`: where it listens, what it prints, how it stops, and whom it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboards import cli
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.ledger import open_ledger
from lawn_tune.settings import DASHBOARD_TOKEN
from tests.helpers.memory_source import make_cell

ROOT = Path(__file__).parents[2]
TOKEN = "correct-horse-battery-staple"
RUN = "import typer, dashboards.cli; typer.run(dashboards.cli.dashboard)"


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/lawn-tune.db"
    with open_ledger(url) as opened:
        opened.register([make_cell("adam")])
    return url


@contextmanager
def running(url: str, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts the command on a free port and yields it with its address."""
    command = [sys.executable, "-c", RUN, "--storage", url, "--port", "0", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            output = process.stdout.readline() + process.stdout.readline()
            found = re.search(r"http://\S+", output)
            assert found, output + (process.stderr.read() if process.stderr and process.poll() is not None else "")
            yield process, found[0]
        finally:
            process.kill()


def get(url: str, headers: Mapping[str, str] | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_where_it_is_and_stops_quietly(ledger: str, stop: signal.Signals) -> None:
    with running(ledger) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert get(address) == 200
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert "Traceback" not in out


def test_with_a_token_it_may_listen_everywhere(ledger: str) -> None:
    with running(ledger, "--host", "0.0.0.0", **{DASHBOARD_TOKEN: TOKEN}) as (_, address):
        assert get(address) == 401
        assert get(address, {"Authorization": f"Bearer {TOKEN}"}) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gpu-box.lan"])
def test_without_a_token_it_listens_on_this_machine_only(
    ledger: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DASHBOARD_TOKEN, raising=False)
    with pytest.raises(UsageError, match="requires a token") as refused:
        cli.dashboard(storage=ledger, host=host)
    assert "--token-file" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("short", "at least 16 characters"),
        ("", "at least 16 characters"),
        ("ü" * 20, "ASCII"),
        (None, "cannot be read"),
    ],
)
def test_a_token_that_does_not_serve_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "token.txt"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=reason) as refused:
        cli.read_token(file)
    assert not content or content not in str(refused.value)


def test_the_file_is_asked_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DASHBOARD_TOKEN, "from-the-variable-1234")
    assert cli.read_token(None) == "from-the-variable-1234"
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n")
    assert cli.read_token(tmp_path / "token.txt") == TOKEN
    monkeypatch.setenv(DASHBOARD_TOKEN, "")
    assert cli.read_token(None) is None


def test_a_port_in_use_is_shown(ledger: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1, port {port}: .*in use") as refused:
            cli.dashboard(storage=ledger, port=port)
    assert "--port" in (refused.value.hint or "")


def test_a_ledger_that_is_not_there_is_shown(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        cli.dashboard(storage=f"sqlite:///{tmp_path}/none.db", port=0)


def test_a_viewer_changes_nothing(ledger: str) -> None:
    file = Path(ledger.removeprefix("sqlite:///"))
    before = file.read_bytes()
    with running(ledger) as (_, address):
        for path in ("", "_dash-layout", "_version?space=digits", "compare"):
            assert get(address + path) == 200
        time.sleep(0.1)
    assert file.read_bytes() == before


def test_the_databases_password_is_printed_nowhere(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_ledger(postgres_url) as opened:
        opened.register([make_cell("adam")])
    monkeypatch.setenv("PGPASSWORD", "pa55-canary")
    with running(postgres_url) as (process, address):
        with urllib.request.urlopen(address + "_dash-layout", timeout=20) as answer:
            assert b"pa55-canary" not in answer.read()
        process.send_signal(signal.SIGINT)
        assert "pa55-canary" not in "".join(process.communicate(timeout=30))
