"""The command itself: its list of commands, what it imports, exit codes, interruptions, closed pipes."""

from __future__ import annotations

import importlib
import io
import os
import re
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lawn_tune import __version__
from lawn_tune.cli import main
from lawn_tune.cli.main import COMMANDS, Lazy, app
from lawn_tune.errors import DataError, ExecutionError, LawnTuneError, LedgerError, UsageError
from lawn_tune.settings import DEBUG, NO, YES
from search_spaces.space import SpaceError
from trainables import data

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "optuna", "sqlalchemy", "plotly", "pooch", "sklearn")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def lawn_tune(*args: str, cwd: Path, flags: tuple[str, ...] = (), debug: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "lawn_tune", *args]
    env = {**ENVIRONMENT, DEBUG: debug}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=60, check=False)


# --- commands and imports -------------------------------------------------------------------------------------------


def test_help_lists_commands_in_the_order_of_work() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].split("\n\n")[0].splitlines()]
    ours = [name for name, lazy in COMMANDS.items() if lazy.target]
    assert (
        [name for name in listed if name in ours]
        == ours
        == [
            *("plan", "launch", "status", "compare", "export", "reproduce", "import", "ledger", "data", "doctor"),
        ]
    )
    assert [name for name in listed if name in COMMANDS] == [name for name in COMMANDS if name in listed]
    assert "lawn-tune launch quickstart" in result.stdout
    for lazy in COMMANDS.values():
        assert not lazy.target or lazy.help in result.stdout


def test_no_arguments_show_the_help() -> None:
    assert "Commands:" in CliRunner().invoke(app, []).output


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"lawn-tune {__version__}\n")


@pytest.mark.parametrize("name", [name for name, lazy in COMMANDS.items() if lazy.target])
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert "lawn-tune" in result.stdout or name == "data"
    assert "--help" in result.stdout


def helps(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, those of groups included."""
    for name in getattr(command, "commands", {}):
        yield (*words, name)
        if name in ("ledger", "data"):
            target = importlib.import_module(f"lawn_tune.cli.{name}").app
            yield from helps(typer.main.get_command(target), (*words, name))


@pytest.mark.parametrize("words", [*helps(typer.main.get_command(app))], ids=" ".join)
def test_help_shows_no_types_of_python(words: tuple[str, ...]) -> None:
    text = CliRunner().invoke(app, [*words, "--help"]).stdout
    assert not re.search(r"<\w|\w>|[{}]|\[\[|\blist\[|[<>]=", text), text
    usage = text.partition("\n")[0]
    for name in re.findall(
        r"^  ([A-Z]+(?:\.\.\.)?)  ", text.partition("Arguments:\n")[2].partition("\n\n")[0], re.MULTILINE
    ):
        assert name in usage, "an argument is named as in the usage line"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plan", "digits", "--json"], ["pla"]])
def test_help_and_plan_import_nothing_heavy(args: list[str], tmp_path: Path) -> None:
    timed = lawn_tune(*args, cwd=tmp_path, flags=("-X", "importtime"))
    imported = {
        line.rpartition("|")[2].strip() for line in timed.stderr.splitlines() if line.startswith("import time:")
    }
    assert "lawn_tune.errors" in imported
    assert [name for name in imported if name.partition(".")[0] in HEAVY] == []


def test_modules_of_the_process_agree_with_the_import_times(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom lawn_tune.cli.main import app\n"
        "result = CliRunner().invoke(app, ['plan', '--all'])\nassert result.exit_code == 0, result.output\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=60, check=True
    )
    assert found.stdout.strip() == "[]"


def test_plugins_take_their_place_or_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("zebra", "zoo.cli:zebra", main.PLUGINS),
        EntryPoint("report", "dashboards.cli:report", main.PLUGINS),
    ]
    monkeypatch.setattr(main, "entry_points", lambda group: points if group == main.PLUGINS else [])
    result = CliRunner().invoke(app, ["--help"])
    listed = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].split("\n\n")[0].splitlines()]
    assert listed.index("report") == listed.index("compare") + 1
    assert listed[-1] == "zebra"
    assert "Added by zoo." in result.stdout
    result = CliRunner().invoke(app, ["zebra"])
    assert result.exit_code == 2
    assert "`lawn-tune zebra` needs the package 'zoo', which is not installed" in result.stderr
    assert "hint: Install everything: pip install" in result.stderr


def test_a_command_nobody_knows_suggests_the_nearest(tmp_path: Path) -> None:
    result = lawn_tune("lunch", cwd=tmp_path)
    assert result.returncode == 2
    assert "No such command 'lunch'. Did you mean 'launch'?" in result.stderr


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `plan` that raises what the test puts into the list."""
    errors: list[BaseException] = []

    def plan() -> None:
        raise errors[0]

    monkeypatch.setattr(main, "_load", lambda name, lazy: main._command(name, plan))
    monkeypatch.delenv(DEBUG, raising=False)
    return errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LawnTuneError("what", "do this"), 1),
        (UsageError("what", "do this"), 2),
        (LedgerError("what", "do this"), 3),
        (DataError("what", "do this"), 4),
        (ExecutionError("what", "do this"), 5),
        (SpaceError("what"), 2),
        (data.DataError("what"), 4),
        (data.MissingDataError("what"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_that_were_foreseen_are_a_line_a_hint_and_a_code(
    raising: list[BaseException], error: Exception, code: int
) -> None:
    raising.append(error)
    result = CliRunner().invoke(app, ["plan"])
    assert result.exit_code == code
    assert result.stderr == "error: what\n" + ("hint: do this\n" if isinstance(error, LawnTuneError) else "")
    assert result.stdout == ""


@pytest.mark.parametrize("debug", ["flag", "variable"])
def test_debugging_shows_the_traceback(
    raising: list[BaseException], monkeypatch: pytest.MonkeyPatch, debug: str
) -> None:
    raising.append(UsageError("what"))
    monkeypatch.setenv(DEBUG, "1" if debug == "variable" else "0")
    result = CliRunner().invoke(app, ["--debug", "plan"] if debug == "flag" else ["plan"])
    assert result.exception is raising[0]


@pytest.mark.parametrize("text", [*YES, "True", "YES"])
def test_yes_is_said_in_three_ways(raising: list[BaseException], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    raising.append(UsageError("what"))
    monkeypatch.setenv(DEBUG, text)
    assert CliRunner().invoke(app, ["plan"]).exception is raising[0]


@pytest.mark.parametrize("text", [*NO, "", "False"])
def test_no_is_said_in_three_ways(raising: list[BaseException], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    raising.append(UsageError("what"))
    monkeypatch.setenv(DEBUG, text)
    assert CliRunner().invoke(app, ["plan"]).stderr == "error: what\n"


@pytest.mark.parametrize("text", ["on", "2", "ja"])
def test_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(DEBUG, text)
    result = CliRunner().invoke(app, ["plan", "quickstart"])
    assert result.exit_code == 2
    assert f"{DEBUG}: must be 1, true, yes or 0, false, no, got '{text}'" in result.stderr


URLS = ("postgresql//me:s3cret@localhost/nope", "foo:s3cret", "postgresql://me:s3cret/x")


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("args", [["--storage"], []], ids=["option", "file"])
def test_neither_message_nor_traceback_shows_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, args: list[str]
) -> None:
    (tmp_path / "lawn-tune.toml").write_text(f'storage = "{url}"\n')
    monkeypatch.chdir(tmp_path)
    command = ["status", *args, *([url] if args else [])]
    monkeypatch.setenv(DEBUG, "0")
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 2
    assert "s3cret" not in shown.output
    monkeypatch.setenv(DEBUG, "1")
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, UsageError)
    assert "s3cret" not in "".join(traceback.format_exception(error))


def test_a_traceback_of_a_process_shows_no_password(tmp_path: Path) -> None:
    result = lawn_tune("status", "--storage", URLS[0], cwd=tmp_path, debug="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "s3cret" not in result.stdout + result.stderr


def test_an_interruption_is_130(raising: list[BaseException]) -> None:
    raising.append(KeyboardInterrupt())
    result = CliRunner().invoke(app, ["plan"])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            RuntimeError("odd"),
            ["error: RuntimeError: odd", "hint: This is a bug in lawn-tune; LAWN_TUNE_DEBUG=1 shows"],
        ),
        (ValueError("odd"), ["error: ValueError: odd", "hint: This is a bug in lawn-tune"]),
        (OSError(28, "No space left on device"), ["error: [Errno 28] No space left on device"]),
    ],
)
def test_what_was_not_foreseen_has_no_traceback_either(
    raising: list[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    lines: list[str],
) -> None:
    raising.append(error)
    monkeypatch.setattr(sys, "argv", ["lawn-tune", "plan"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert [line for line in lines if line not in shown] == []
    assert "Traceback" not in shown
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(type(error)):
        main.main()


def test_typer_explains_its_own_errors() -> None:
    result = CliRunner().invoke(app, ["plan", "--nothing"])
    assert result.exit_code == 2
    assert "No such option: --nothing" in result.stderr
    result = CliRunner().invoke(app, ["plan", "--seeds", "two"])
    assert result.exit_code == 2
    assert "Invalid value for '--seeds'" in result.stderr


# --- as a process ---------------------------------------------------------------------------------------------------


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


def test_a_lazy_target_may_be_a_function_or_an_app() -> None:
    function: Any = main._load("plan", Lazy("lawn_tune.cli.plan:plan", ""))
    group: Any = main._load("data", Lazy("lawn_tune.cli.data:app", ""))
    assert (function.name, group.name) == ("plan", "data")
    assert isinstance(group, typer.core.TyperGroup)
