"""What people type: flags, variables, files, patterns. Each works, or an error names it and says what to do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.errors import LawnTuneError, UsageError
from lawn_tune.ledger.database import Database
from lawn_tune.planning.plan import plan_all, select
from lawn_tune.planning.spaces import find_space
from lawn_tune.settings import FILE, SETTINGS, Setting, resolve

SNIPPETS = (
    *("~nouser", "~", "x" * 300, "y/" * 3_000, "%zz", "%00", ":99999999", ":-1", "?a=b&a=c", "file:", ":memory:", "@@"),
    *("://", "\0", "\n", "ü💡", "\ud800", "'", '"', "[", "]", "{}", "#", " ", "..", "1" * 5_000, "٣", "nan", "1e3"),
)
URLS = (
    *("sqlite:///lawn.db", "sqlite:////tmp/x/y.db", "postgresql://me:pw@host:5432/db?sslmode=require", "", "sqlite:"),
    *(
        "postgresql://me@[::1]/db",
        "postgresql+psycopg://h/d",
        "postgresql:///d?host=/tmp",
        "postgres://h/d",
        "http://h",
    ),
)
VALUES = (*URLS, "data", "8h", "18:30", "25:61", "2026-13-45", "s3://b/p", "file://x", "yes", "0", "-1", "12", "ray")


@st.composite
def typed(draw: st.DrawFn, base: tuple[str, ...]) -> str:
    """A value with up to two oddities in it, or any text."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.text(max_size=60))
    text = draw(st.sampled_from(base))
    for _ in range(draw(st.integers(0, 2))):
        at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        text = text[:at] + draw(st.sampled_from(("", *SNIPPETS))) + text[draw(st.sampled_from((at, end))) :]
    return text


def check(error: LawnTuneError, named: str) -> None:
    text = f"{error}"
    assert named in text
    assert error.hint
    assert len(text) < 1_500
    assert text.isprintable()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=200)
@given(setting=st.sampled_from(SETTINGS), value=typed(VALUES))
def test_a_variable_is_taken_or_refused(setting: Setting, value: str, folder: Path) -> None:
    try:
        resolve({}, environ={setting.variable: value}, directory=folder / "nowhere")
    except UsageError as error:
        check(error, setting.variable)


LITERALS = ('""', "1", "-1", "1.5", "nan", "true", "[]", "{}", '"x"', "1979-05-27", "[1", "", "'" + "x" * 5_000 + "'")


@settings(max_examples=120)
@given(
    key=st.sampled_from([setting.name for setting in SETTINGS]) | st.text(max_size=12),
    value=st.sampled_from(LITERALS) | st.text(max_size=30),
)
def test_a_settings_file_is_taken_or_refused(key: str, value: str, folder: Path) -> None:
    (folder / FILE).write_bytes(f"{key} = {value}\n".encode("utf-8", "replace"))
    try:
        resolve({}, environ={}, directory=folder)
    except UsageError as error:
        check(error, FILE)


@settings(max_examples=250)
@given(url=typed(URLS))
def test_a_url_names_a_place_for_a_ledger_or_is_refused(url: str) -> None:
    try:
        database = Database(url)
    except LawnTuneError as error:
        check(error, "")
        return
    assert database.path is None or database.path.parent.is_dir()
    database.engine.dispose()


@settings(max_examples=120)
@given(pattern=st.text(alphabet="*?[]!-ab0d/m\\s.\n^ü", max_size=40) | st.sampled_from(("*a" * 200 + "b", "[" * 999)))
def test_a_pattern_chooses_cells_or_is_refused(pattern: str) -> None:
    cells = plan_all([find_space("digits")])
    try:
        chosen = select(cells, [pattern])
    except UsageError as error:
        check(error, f"--cells {pattern[:80]!r}")
    else:
        assert chosen
        assert all(cell in cells for cell in chosen)


@settings(max_examples=120)
@given(address=typed(("head:6379", "auto", "ray://head:10001", "[::1]:6379", "10.0.0.1:1", "")))
def test_an_address_has_a_host_and_a_port_or_is_refused(address: str) -> None:
    try:
        resolve({"ray_address": address}, environ={}, directory=Path("nowhere"))
    except UsageError as error:
        check(error, "--ray-address")
    else:
        assert address == "auto" or 1 <= int(address.rpartition(":")[2]) <= 65535


# --- a launch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["launch", "nothing"], 2, "'nothing'"),
        (["launch", "nothing.toml"], 2, "nothing.toml"),
        (["launch", "broken.toml"], 2, "broken.toml"),
        (["launch", "digits", "--cells", "nothing"], 2, "--cells 'nothing'"),
        (["launch", "digits", "--max-epochs", "0"], 2, "--max-epochs"),
        (["launch", "digits", "--seeds", "-1"], 2, "--seeds"),
        (["launch", "digits", "--executor", "spark"], 2, "--executor"),
        (["launch", "digits", "--ray-address", "nowhere"], 2, "--ray-address"),
        (["launch", "digits", "--storage", "mysql://me@host/db"], 2, "mysql"),
        (["launch", "digits", "--storage", "sqlite:///no/folder/x.db"], 3, "mkdir -p"),
        (["launch", "digits", "--work-dir", "broken.toml"], 2, "work_dir"),
        (["launch", "movielens_100k"], 4, "lawn-tune data fetch"),
    ],
)
def test_a_launch_that_is_refused_leaves_no_ledger(
    arguments: list[str], code: int, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    (tmp_path / "broken.toml").write_text("dataset = [")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert named in result.output
    assert [path.name for path in tmp_path.rglob("*") if path.name not in ("broken.toml", ".lawn-tune")] == []
