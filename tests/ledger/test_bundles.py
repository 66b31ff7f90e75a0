"""Bundles: restored, a space is as it was; a bundle that is not as it was written is refused in one sentence."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import big_ledger
from lawn_tune.cells import Cell, CellName
from lawn_tune.cli.main import app
from lawn_tune.cli.source import reading_space
from lawn_tune.errors import LawnTuneError, LedgerError, UsageError
from lawn_tune.ledger import Ledger, Owner, curves, open_ledger
from lawn_tune.ledger.bundle import APPLICATION, Bundle, about, open_bundle, write_bundle
from lawn_tune.ledger.content import Content, chunks
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.importing import Imported, import_bundle
from lawn_tune.results import FINISHED
from tests.helpers.ledger_answers import answers, comparison, jobs, studies

ROOT = Path(__file__).parents[2]
SPACES = ("big", "big_2", "shared")


def quiet(what: str, done: float, total: float) -> None:
    pass


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Finished, diverged, failed and running trials in two spaces, and a third that plans those of the first."""
    url = f"sqlite:///{tmp_path_factory.mktemp('source')}/ledger.db"
    big_ledger.write(url, trials=48, epochs=4, spaces=2)
    with open_ledger(url) as ledger:
        cells = ledger.cells("big")
        ledger.register([replace(cell, name=replace(cell.name, space="shared")) for cell in cells])
        for cell in cells:
            name = CellName("shared", cell.name.optimizer, cell.name.batch_size)
            confirmed = {
                row.key for row in ledger.trials("big") if row.phase == "confirm" and row.cell == str(cell.name)
            }
            points = [cell.grid.point(i) for i in range(cell.grid.size)]
            ledger.assign(name, "confirm", [t for p in points for t in cell.confirm_trials(p) if t.key in confirmed])
    return url


@pytest.fixture(scope="module")
def published(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("published #1?")
    return {space: write_bundle(source, space, folder / f"{space}.bundle", quiet) for space in SPACES}


@pytest.fixture
def path(published: dict[str, Bundle], tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copy(published["big"].path, tmp_path / "big.bundle"))


def restored(path: Path, url: str) -> Imported:
    return import_bundle(path, url, quiet, pytest.fail)


# --- what is restored ------------------------------------------------------------------------------------------------


def test_every_answer_about_a_space_is_restored(
    source: str, published: dict[str, Bundle], ledger_url: str, tmp_path: Path
) -> None:
    for space in ("big", "big_2"):
        assert restored(published[space].path, ledger_url).added == published[space].rows
    with open_ledger(source) as ledger, open_ledger(ledger_url, create=False) as imported:
        expected, found = answers(ledger), answers(imported)
        for space in ("big", "big_2"):
            assert found[space].pop("version")
            assert expected[space].pop("version")
            assert found[space] == expected[space]
    for space in ("big", "big_2"):
        assert comparison(ledger_url, space) == comparison(source, space)
        assert not any(restored(published[space].path, ledger_url).added.values())
    assert any(published["big"].rows[table] for table in ("lawn_progress", "lawn_examples"))


def test_a_bundle_is_compared_without_a_ledger(source: str, published: dict[str, Bundle], tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/none.db"
    for space in SPACES:
        before = published[space].path.read_bytes()
        assert comparison(nowhere, str(published[space].path)) == comparison(source, space)
        assert published[space].path.read_bytes() == before
        assert [file.suffix for file in published[space].path.parent.iterdir()] == [".bundle"] * len(SPACES)


def test_a_bundle_is_reported_without_a_ledger(source: str, published: dict[str, Bundle], tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/none.db"
    pages = [tmp_path / "ledger.md", tmp_path / "bundle.md"]
    for space, url, page in zip(["big", str(published["big"].path)], [source, nowhere], pages, strict=True):
        output("report", space, "--format", "md", "--output", str(page), "--storage", url)
    assert pages[0].read_text().replace(source, "URL") == pages[1].read_text().replace(nowhere, "URL")


def test_a_bundle_is_exported_without_a_ledger(source: str, published: dict[str, Bundle], tmp_path: Path) -> None:
    path, nowhere = published["big"].path, f"sqlite:///{tmp_path}/none.db"
    exported = [output("export", space, "--storage", url) for space, url in (("big", source), (str(path), nowhere))]
    assert exported[0] == exported[1]


def test_a_launch_trains_nothing_that_a_bundle_held(published: dict[str, Bundle], sqlite_url: str) -> None:
    restored(published["big"].path, sqlite_url)
    with open_ledger(sqlite_url) as ledger:
        done = {row.key for row in ledger.trials("big") if row.outcome in FINISHED}
    assert done
    assert done.isdisjoint(key for keys in jobs(sqlite_url).values() for key in keys)


def test_results_that_another_space_trained_come_along(
    source: str, published: dict[str, Bundle], sqlite_url: str
) -> None:
    restored(published["shared"].path, sqlite_url)
    assert comparison(sqlite_url, "shared") == comparison(source, "shared")
    with open_ledger(sqlite_url) as ledger, open_ledger(source) as original:
        keys = [row.key for row in original.trials("shared") if row.outcome in FINISHED]
        assert keys == [row.key for row in ledger.trials("shared") if row.outcome in FINISHED]
        assert answers(ledger)["shared"]["curves"] == {
            key: {name: values.tobytes() for name, values in curve.items()}
            for key, curve in original.curves(keys).items()
        }
    restored(published["big"].path, sqlite_url)  # trained them, which is no difference
    assert comparison(sqlite_url, "big") == comparison(source, "big")


def test_the_studies_are_rebuilt(published: dict[str, Bundle], sqlite_url: str) -> None:
    restored(published["big"].path, sqlite_url)
    with open_ledger(sqlite_url) as ledger:
        ended = [row for row in ledger.trials("big") if row.outcome != "running"]
    assert sum(len(trials) - 1 for trials in studies(sqlite_url).values()) == len(ended)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_row_that_differs_is_named_and_nothing_is_imported(
    published: dict[str, Bundle], path: Path, ledger_url: str
) -> None:
    restored(published["big"].path, ledger_url)
    before = comparison(ledger_url, "big")
    change(path, "UPDATE lawn_trials SET ended = 'never' WHERE key = (SELECT max(key) FROM lawn_trials)")
    change(path, "INSERT INTO lawn_examples SELECT key, 8, x'ff' FROM lawn_trials WHERE outcome = 'diverged'")
    seal(path)
    with pytest.raises(LedgerError, match=r"holds key \w{16} in lawn_trials already, with another ended") as caught:
        restored(path, ledger_url)
    assert "another ledger" in str(caught.value.hint)
    assert comparison(ledger_url, "big") == before


def test_a_launch_that_works_on_a_cell_is_left_alone(published: dict[str, Bundle], sqlite_url: str) -> None:
    restored(published["big"].path, sqlite_url)
    with open_ledger(sqlite_url) as ledger:
        cell = ledger.cells("big")[0].name
        assert ledger.lease(cell, Owner.current(), 60)
        with pytest.raises(LedgerError, match=f"a launch works on {cell}"):
            restored(published["big"].path, sqlite_url)


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def seal(path: Path) -> None:
    """Gives a changed bundle the hash of what it holds now: only what looks at the rows themselves can refuse it."""
    database, content = Database(f"sqlite:///{quote(str(path))}"), Content()
    with database.writing() as connection:
        for table, rows in chunks(connection):
            content.add(table, rows)
        connection.execute(about.update().where(about.c.name == "sha256").values(value=content.digest))
    database.close()


BOMB = (bytes([1, 2, 0, 0, 0]) + zlib.compress(bytes(2**22 + 1))).hex()
"""A curve of 4 kB that fills 4 MB."""

CHANGED = {
    "trigger": ("CREATE TRIGGER t AFTER INSERT ON lawn_plan BEGIN SELECT 1; END", "not those of a bundle: t"),
    "view": ("CREATE VIEW v AS SELECT 1", "not those of a bundle: v"),
    "table": ("CREATE TABLE more (x)", "not those of a bundle: more"),
    "column": ("ALTER TABLE lawn_packs ADD COLUMN x INT AS (1)", "not those of a bundle: lawn_packs.x"),
    "missing": ("DROP TABLE lawn_progress", "not those of a bundle: lawn_progress"),
    "value": ("UPDATE lawn_trials SET epochs = epochs + 1", "their hash differs"),
    "type": ("UPDATE lawn_trials SET error = x'00'", "lawn_trials.error holds bytes, not str"),
    "null": ("DELETE FROM lawn_bundle WHERE name = 'space'", "their hash differs"),
    "schema": ("UPDATE lawn_alembic_version SET version_num = '0002'", "its tables are of schema '0002'"),
    "format": ("PRAGMA user_version = 2", "its format is 2, this version reads format 1"),
    "log": ("PRAGMA journal_mode = WAL", "opened for writing"),
    "other": ("PRAGMA application_id = 1", "is not a bundle"),
}
SEALED = {
    "bomb": (f"UPDATE lawn_curves SET data = x'{BOMB}'", "longer than 4194304 bytes"),
    "state": ("UPDATE lawn_packs SET state = 'done'", "state 'done'"),
    "number": ("UPDATE lawn_trials SET summary = '{\"x\": NaN}' WHERE outcome = 'complete'", "summary is not JSON"),
    "definition": ("UPDATE lawn_cells SET definition = '[]'", "definition is not a table"),
    "parent": ("DELETE FROM lawn_packs WHERE state = 'running'", "lawn_progress refers to a row of lawn_packs"),
    "space": ("UPDATE lawn_bundle SET value = 'x' WHERE name = 'space'", "should hold space 'x' alone"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_bundle_is_neither_opened_nor_imported(name: str, path: Path, tmp_path: Path) -> None:
    statement, reason = CHANGED[name]
    change(path, statement)
    for arguments in (
        ["compare", str(path)],
        ["ledger", "import", str(path), "--storage", f"sqlite:///{tmp_path}/x.db"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (2, 3), result.output
        assert reason in " ".join(result.output.split())
        assert "Traceback" not in result.output
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize("name", SEALED)
def test_rows_that_no_reader_would_believe_are_not_imported(
    name: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, reason = SEALED[name]
    monkeypatch.setattr(curves, "LONGEST", 2**22)
    change(path, statement)
    seal(path)
    with pytest.raises(LedgerError, match=reason):
        restored(path, f"sqlite:///{tmp_path}/x.db")
    assert not (tmp_path / "x.db").exists()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused_or_reads_the_same(
    published: dict[str, Bundle], tmp_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(published["big"].path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        place = data.draw(st.integers(0, 8192) | st.integers(0, len(whole) - 8))
        whole[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path / "damaged.bundle"
    path.write_bytes(whole)
    try:
        with open_bundle(path) as (_, bundle):
            assert bundle.digest == published["big"].digest
    except LawnTuneError:
        pass


def test_a_bundle_takes_the_place_of_bundles_only(source: str, tmp_path: Path) -> None:
    ledger, there = Database(source).path, tmp_path / "there"
    assert ledger is not None
    there.write_text("mine")
    for file in (ledger, there):
        before = file.read_bytes()
        with pytest.raises(UsageError, match="exists and is not a bundle"):
            write_bundle(source, "big", file, quiet)
        assert file.read_bytes() == before
    with pytest.raises(UsageError, match="no folder"):
        write_bundle(source, "big", tmp_path / "no" / "x", quiet)
    write_bundle(source, "big", tmp_path / "x", quiet)
    assert write_bundle(source, "big_2", tmp_path / "x", quiet).space == "big_2"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["there", "x"]


def test_a_ledger_is_not_a_bundle(source: str, published: dict[str, Bundle], tmp_path: Path) -> None:
    path = Database(source).path
    with pytest.raises(UsageError, match="is not a bundle") as caught:
        restored(path, f"sqlite:///{tmp_path}/x.db")  # type: ignore[arg-type]
    assert "--storage" in str(caught.value.hint)
    own = published["big"].path
    with pytest.raises(UsageError, match="is the ledger itself"):
        restored(own, f"sqlite:///{quote(str(own))}")


def test_a_mistyped_bundle_names_the_nearest_file(published: dict[str, Bundle], tmp_path: Path) -> None:
    path = published["big"].path
    with pytest.raises(UsageError, match="there is no bundle") as caught:
        restored(path.with_name(path.name[1:]), f"sqlite:///{tmp_path}/x.db")
    assert f"Did you mean '{path}'?" in str(caught.value.hint)


def test_a_file_of_another_kind_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    path.write_text("{}")
    with pytest.raises(UsageError, match="neither a bundle nor the TOML file"), reading_space(str(path), None):
        raise AssertionError("it was opened")


@pytest.mark.parametrize(
    "command", ["compare", "report", "export", "status", "report --site site", "report --bundle x"]
)
@pytest.mark.parametrize("space", ["BIG.bundle", "big.bundl", "big"])
def test_a_path_of_nothing_is_not_a_space(published: dict[str, Bundle], command: str, space: str) -> None:
    path = published["big"].path.with_name(space)
    refused = CliRunner().invoke(app, [*command.split(), str(path)])
    assert refused.exit_code == 2
    assert f"there is no file '{path}'" in refused.stderr
    assert ("Did you mean 'big.bundle'?" in refused.stderr) == (space != "big")


@pytest.mark.parametrize(
    ("command", "why", "instead"),
    [
        ("status", "is a bundle, and status reads ledgers", "lawn-tune ledger import"),
        ("report --site site", "is a bundle, and --site reads a ledger", "lawn-tune report"),
        ("report --bundle copy", "is a bundle already", "cp"),
        ("plan", "is a bundle or another SQLite database", "lawn-tune compare"),
        ("launch", "is a bundle or another SQLite database", "lawn-tune compare"),
    ],
)
def test_a_bundle_is_refused_with_what_reads_it(
    published: dict[str, Bundle], command: str, why: str, instead: str
) -> None:
    path = published["big"].path
    refused = CliRunner().invoke(app, [*command.split(), str(path)])
    assert refused.exit_code == 2
    assert why in refused.stderr
    assert f"{instead} '{path}'" in refused.stderr


def test_the_header_is_the_documented_one(published: dict[str, Bundle]) -> None:
    page = (Path(__file__).parents[2] / "docs/bundles.md").read_text()
    assert f"| {APPLICATION} (`LAWN`) |" in page
    connection = sqlite3.connect(published["big"].path)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert all(f"`{table}`" in page for table in tables)


def test_the_command_writes_and_imports(source: str, sqlite_url: str, tmp_path: Path) -> None:
    path = str(tmp_path / "x.bundle")
    wrote = output("report", "big", "--bundle", path, "--storage", source)
    imported = output("ledger", "import", path, "--storage", sqlite_url)
    assert wrote.splitlines()[-1] == imported.splitlines()[-1]
    assert "new: 6 cells" in imported
    assert "new: none" in output("ledger", "import", path, "--storage", sqlite_url)


def output(*words: str) -> str:
    return CliRunner().invoke(app, words, catch_exceptions=False).stdout


@pytest.mark.parametrize("path", sorted((ROOT / "docs/results").glob("*.bundle")), ids=lambda path: path.stem)
def test_the_keys_of_published_trials_are_those_of_today(path: Path) -> None:
    """So a launch of the same space goes on with them; a change of what is trained needs a new `NUMERICS`."""
    with open_bundle(path) as (database, bundle):
        ledger = Ledger(database)
        cells, rows = ledger.cells(bundle.space), ledger.trials(bundle.space)
    for cell in cells:
        held = {row.key for row in rows if row.cell == str(cell.name) and row.phase == "search"}
        assert held
        assert held <= {trial.key for trial in cell.search_trials}
        assert Cell.from_dict(cell.to_dict()).plan_id == cell.plan_id
