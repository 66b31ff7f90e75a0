"""The command as a process: exit codes, closed and full streams, interruptions, its time."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lawn_tune.cli import main
from tests.helpers.command_process import ENVIRONMENT, lawn_tune


@pytest.mark.parametrize(
    ("args", "code"),
    [(["plan", "quickstart"], 0), (["--version"], 0), (["plan", "nothing"], 2), (["status"], 3), (["plan", "--x"], 2)],
)
def test_exit_codes_reach_the_shell(tmp_path: Path, args: list[str], code: int) -> None:
    result = lawn_tune(*args, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert bool(result.stderr) == bool(code)


@pytest.mark.parametrize(
    ("setting", "value", "rest"),
    [
        ("deadline", "2020-01-01", ": 2020-01-01 00:00"),
        ("gpus", "99", ": this machine has "),
        ("notify", "no-such-program", ": there is no program 'no-such-program' here"),
    ],
)
def test_a_setting_that_cannot_be_met_is_named_where_it_was_found(
    tmp_path: Path, setting: str, value: str, rest: str
) -> None:
    launch, variable = ["launch", "quickstart", "--executor", "inline"], f"LAWN_TUNE_{setting.upper()}"
    results = [lawn_tune(*launch, f"--{setting}", value, cwd=tmp_path)]
    results.append(lawn_tune(*launch, cwd=tmp_path, variables={variable: value}))
    (tmp_path / "lawn-tune.toml").write_text(f'{setting} = "{value}"\n')
    results.append(lawn_tune(*launch, cwd=tmp_path))
    for result, origin in zip(results, (f"--{setting}", variable, f"lawn-tune.toml: {setting}"), strict=True):
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith(f"error: {origin}{rest}")


@pytest.mark.parametrize(
    ("args", "code"),
    [(["plan", "--all"], main.BROKEN_PIPE), (["plan", "--all", "--json"], main.BROKEN_PIPE), (["--help"], 1)],
)
def test_a_reader_that_goes_away_is_no_accident(tmp_path: Path, args: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "lawn_tune", *args]
        result = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (code, b"")


@pytest.mark.parametrize("args", [["plan", "quickstart"], ["plan", "--all", "--json"], ["data", "list"], ["--help"]])
def test_what_cannot_be_written_is_an_error(tmp_path: Path, args: list[str]) -> None:
    """A file open for reading stands for a full disk: both fail when the output is flushed."""
    (tmp_path / "out.txt").touch()
    command = [sys.executable, "-m", "lawn_tune", *args]
    with (tmp_path / "out.txt").open("rb") as out:
        result = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT, timeout=60, check=False
        )
    assert (result.returncode, result.stderr) == (1, b"error: cannot write output: Bad file descriptor\n")


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        ("plan quickstart >&-", 1, "error: cannot write output: Bad file descriptor\n"),
        ("plan quickstart >/dev/full", 1, "error: cannot write output: No space left on device\n"),
        ("plan quickstart <&- 2>&-", 0, ""),
        ("plan nothing 2>/dev/full", 2, ""),
        ("plan nothing >&- 2>&-", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(tmp_path: Path, redirection: str, code: int, error: str) -> None:
    line = f"'{sys.executable}' -m lawn_tune {redirection}"
    found = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=60, check=False
    )
    assert (found.returncode, found.stderr) == (code, error)


def test_a_terminal_without_a_character_gets_its_number(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lawn_tune", "plan", "quickstart", "--storage", "sqlite:///ü.db"]
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}
    found = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    assert rb"sqlite:///\xfc.db" in found.stdout


@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "argv", ["lawn-tune", "plan", "quickstart"])
    disk = io.StringIO()
    monkeypatch.setattr(disk, method, full)
    monkeypatch.setattr(sys, "stdout", disk)
    monkeypatch.setattr(main, "flush", lambda stream: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: cannot write output: No space left on device\n"


def test_control_c_ends_a_process_with_130(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom lawn_tune.cli import main\n"
        "def plan():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "main._load = lambda name, lazy: main._command(name, plan)\n"
        "sys.argv = ['lawn-tune', 'plan']\nmain.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(("args", "seconds"), [(["--help"], 0.5), (["plan", "--all"], 2.5)])
def test_it_is_quick(tmp_path: Path, args: list[str], seconds: float) -> None:
    """In CPU time, which a busy machine stretches less than the time on the wall. All spaces have 6,800 trials."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def took() -> float:
        before = spent()
        assert lawn_tune(*args, cwd=tmp_path).returncode == 0
        return spent() - before

    assert any(took() < seconds for _ in range(3))
