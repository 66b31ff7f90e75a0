"""The command itself: its list of commands, what it imports, errors and passwords."""

from __future__ import annotations

import importlib
import re
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
from tests.helpers.command_process import ENVIRONMENT, lawn_tune
from trainables import data

HEAVY = ("torch", "ray", "optuna", "sqlalchemy", "plotly", "pooch", "sklearn")


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
    assert not re.search(r"<\w|\w>|[{}]|\[\[|\blist\[|[<>]=|\b(int|float) range|\.{4}", text), text
    assert not re.search(r"\.\.\.$", text.partition("Commands:\n")[2], re.MULTILINE), "a summary is cut"
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


def test_what_typer_refuses_has_the_form_of_all_errors() -> None:
    result = CliRunner().invoke(app, ["plan", "--nothing"])
    assert result.exit_code == 2
    assert result.stderr == "error: No such option: --nothing\nhint: 'lawn-tune plan --help' shows what it takes.\n"
    result = CliRunner().invoke(app, ["plan", "--seeds", "two"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --seeds: must be a whole number from 1 to 999999, got 'two'\nhint: ")
    result = CliRunner().invoke(app, ["compare", "quickstart", "--format", "html"])
    assert result.stderr.startswith("error: Invalid value for '--format': 'html' is not one of 'rich', 'md'")


def test_a_lazy_target_may_be_a_function_or_an_app() -> None:
    function: Any = main._load("plan", Lazy("lawn_tune.cli.plan:plan", ""))
    group: Any = main._load("data", Lazy("lawn_tune.cli.data:app", ""))
    assert (function.name, group.name) == ("plan", "data")
    assert isinstance(group, typer.core.TyperGroup)
