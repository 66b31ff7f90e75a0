"""The commands plan, status and export, run in process over a ledger in memory or a real one."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

import lawn_tune.cli.export
import lawn_tune.cli.plan
import lawn_tune.cli.status
from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.ledger import Lease, open_ledger
from lawn_tune.planning.costs import estimate
from lawn_tune.planning.placement import place
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space
from lawn_tune.planning.speed import Speeds
from lawn_tune.settings import SETTINGS
from tests.helpers.memory_ledger import PROVENANCE, QUICKSTART, MemoryLedger, row, rows
from trainables.catalogue.datasets import DATASETS, MACHINE
from trainables.catalogue.rows import Dataset, Speed

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    memory = MemoryLedger(QUICKSTART)

    @contextmanager
    def reading(storage: str | None) -> Iterator[MemoryLedger]:
        yield memory
        memory.close()

    monkeypatch.setattr(lawn_tune.cli.status, "reading", reading)
    monkeypatch.setattr(lawn_tune.cli.export, "reading", reading)
    return memory


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


def read(*args: str) -> Any:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def short(cell: Cell) -> str:
    return str(cell.name).removeprefix(f"{cell.name.space}/")


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_lists_every_cell_and_the_totals() -> None:
    result = run("plan", "quickstart")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["quickstart"]
    assert [line[:3] for line in lines[2:6]] == [[short(cell), "9", "3"] for cell in QUICKSTART]
    assert "4 cells, 36 search + 12 confirm trials in 8 packs" in result.stdout
    assert "ledger sqlite:///lawn-tune.db: not created yet" in result.stdout
    assert not list(Path().iterdir()), "planning writes nothing"


def test_plan_names_rivals_with_grids_of_unequal_size(tmp_path: Path) -> None:
    text = Path(lawn_tune.__file__).parents[1].joinpath("search_spaces", "quickstart.toml").read_text()
    (tmp_path / "mine.toml").write_text(f"{text}\n[optimizers.adam.batch.512]\nweight_decay = [0.1]\n")
    shown = run("plan", str(tmp_path / "mine.toml")).stdout
    assert shown.count("unequal search") == 1
    assert "adam-lawn/bs512 has 9 grid points, its baseline adam 3: unequal search" in shown
    assert "unequal search" not in run("plan", "quickstart").stdout


def test_plan_tells_hours_where_they_are_known_and_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, speeds in (("digits", {"small-vgg": Speed(1e-3, 0.0)}), ("fashion-mnist", {})):
        monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), name, replace(DATASETS[name], speeds=speeds))
    cost = sum(estimate(cell).examples for cell in QUICKSTART) * 1e-3 / 60
    assert f"time on one worker: {cost:.0f} min (from {MACHINE})" in run("plan", "quickstart").stdout
    mixed = run("plan", "quickstart", "fashion_mnist").stdout
    assert f"time on one worker: {cost:.0f} min (from {MACHINE})" in mixed
    assert "without 15 of 19 cells, whose time is unknown until measured" in mixed
    unknown = run("plan", "fashion_mnist").stdout
    assert "time on one worker: unknown until measured" in unknown
    shown = [lawn_tune.cli.plan.ON_GPUS in text for text in (mixed, unknown)]
    assert shown == [True, False], "the table of speeds is of CPU cores"


def test_plan_as_json_holds_what_the_table_holds() -> None:
    document = read("plan", "--all", "--json")
    expected = [str(cell.name) for name in builtin_spaces() for cell in plan(find_space(name))]
    assert [cell["cell"] for cell in document["cells"]] == expected
    assert document["ledger"] is None
    assert {cell["ledger"] for cell in document["cells"]} == {None}
    assert all(cell["examples_trained"] > 0 for cell in document["cells"])


def test_plan_takes_filters_caps_and_seeds() -> None:
    document = read("plan", "quickstart", "--cells", "adam/*", "--max-epochs", "5", "--seeds", "4", "--json")
    shown = [(cell["cell"], cell["epochs"], cell["full_epochs"], cell["confirm_trials"]) for cell in document["cells"]]
    assert shown == [("quickstart/adam/bs64", 5, 20, 4), ("quickstart/adam/bs512", 5, 20, 4)]
    assert "5/20" in run("plan", "quickstart", "--max-epochs", "5").stdout


def test_plan_tells_what_a_real_ledger_has() -> None:
    with open_ledger("sqlite:///mine.db") as real:
        real.register(QUICKSTART)
    document = read("plan", "quickstart", "digits", "--storage", "sqlite:///mine.db", "--json")
    assert document["ledger"] == "sqlite:///mine.db"
    assert document["cells"][0]["ledger"] == {
        **{"planned": 12, "complete": 0, "diverged": 0, "failed": 0, "running": 0},
        "missing": 12,
    }
    text = run("plan", "quickstart", "--storage", "sqlite:///mine.db").stdout
    assert "0/12" in text
    assert "ledger sqlite:///mine.db: 0 trials finished, 48 missing" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.2, "<1 s"),
        (20, "20 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (180, "3 min"),
        (7160, "119 min"),
        (7190, "2.0 h"),
        (3.6e6, "1,000.0 h"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds: float | None, shown: str) -> None:
    assert lawn_tune.cli.plan._time(seconds) == shown


def test_plan_tells_which_points_never_reach_the_constraint() -> None:
    args = ("plan", "movielens_100k", "--max-epochs", "40", "--cells", "adam*/bs100000")
    line = "8 of 24 points of adam-lawn/bs100000 have free_epochs >= 40 and never reach the constraint"
    assert line in run(*args).stdout.splitlines()
    assert [cell["unconstrained_points"] for cell in read(*args, "--json")["cells"]] == [0, 8]
    assert "never reach" not in run("plan", "movielens_100k").stdout


def test_plan_knows_the_levels_that_launches_added() -> None:
    with open_ledger("sqlite:///mine.db") as real:
        real.register([QUICKSTART[0].extended({"peak_lr": (0.5,)}), *QUICKSTART[1:]])
    args = ("plan", "quickstart", "--storage", "sqlite:///mine.db")
    before, after = (read(*some, "--json")["cells"][0] for some in (args[:2], args))
    assert after["added_levels"] == {"peak_lr": [0.5]}
    rates = len(QUICKSTART[0].grid.values["peak_lr"])
    assert after["points"] * rates == before["points"] * (rates + 1)
    line = "adam/bs64: launch --extend added peak_lr 0.5 to the grid; no winner yet"
    assert line in run(*args).stdout.splitlines()


def test_plan_counts_equal_trials_of_other_spaces(tmp_path: Path) -> None:
    source = find_space("quickstart").source
    (tmp_path / "mine.toml").write_text(source.read_text())
    cell = QUICKSTART[0]
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register(QUICKSTART)
        (pack, *_) = real.record_packs(cell.name, "search", [cell.search_trials])
        pack = real.begin(pack, cell.search_trials)
        real.fail(pack, "odd")
    counts = [read("plan", space, "--json")["cells"][0]["ledger"] for space in ("quickstart", "mine.toml")]
    assert counts[0] == counts[1]
    assert counts[0]["failed"] == 9


@pytest.mark.parametrize(
    "args",
    [
        ["plan", "movielens_100k", "--max-epochs", "40"],
        ["plan", "--all", "--detect", "1"],
        ["status"],
        ["data", "list"],
    ],
)
def test_tables_fit_a_terminal_of_80_columns_and_lose_nothing(args: list[str]) -> None:
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register([cell for name in builtin_spaces() for cell in plan(find_space(name))])
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "lawn_tune.cli.main", *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(command, stdout=secondary, env=env) as process:
        os.close(secondary)
        shown = _all_of(primary).replace("\r", "")
    assert process.returncode == 0
    assert "…" not in shown
    tables, _, rest = shown.rpartition("\n\n")
    notes = ("never reach", "count once")  # sentences, which wrap by themselves
    rows = [line for line in (tables or rest).splitlines() if not any(words in line for words in notes)]
    assert max(map(len, rows)) <= 80
    text = run(*args).stdout
    assert sorted("".join(text.split())) == sorted("".join(shown.split()))


def _all_of(descriptor: int) -> str:
    """Reads what a terminal shows until its other end is closed."""
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(descriptor, 65536):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["plan"], ["plan takes either spaces or --all", "quickstart"]),
        (["plan", "--all", "digits"], ["plan takes either spaces or --all"]),
        (["plan", "nothing"], ["'nothing' is neither a built-in space", "quickstart"]),
        (["plan", "my/space.toml"], ["my/space.toml: cannot be read: No such file"]),
        (["plan", "digits", "digits"], ["every space needs a name of its own"]),
        (["plan", "digits", "--cells", "adam"], ["--cells 'adam' matches no cell of: digits/sgd/bs32", "hint: "]),
        (["plan", "digits", "--max-epochs", "0"], ["--max-epochs must be a whole number from 1, got 0"]),
        (["plan", "digits", "--max-epochs", "3"], ["--max-epochs 3", "optimizers.sgd.warmup_epochs has 5"]),
        (
            ["plan", "movielens_100k", "--max-epochs", "2"],
            ["shorten the warm-up in a copy of the file", "below 2 fit: "],
        ),
        (["plan", "digits", "--detect", "0"], ["--detect must be a number of points above 0, got 0", "--detect 0.5"]),
        (["plan", "digits", "--detect", "nan"], ["--detect must be a number of points above 0, got nan"]),
        (["plan", "digits", "--seeds", "0"], ["--seeds must be a whole number from 1, got 0"]),
        (["plan", "digits", "--storage", "x.db"], ["--storage: must be a storage URL", "got 'x.db'"]),
        (["plan", "digits", "--storage", "sqlite://"], ["names no file"]),
        (["plan", "digits", "--storage", "mysql://me:pw@host/db"], ["mysql"]),
    ],
)
def test_plan_errors_are_usage_errors_without_a_traceback(args: list[str], parts: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert [part for part in parts if part not in result.stderr] == []
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert "pw@" not in result.output
    assert result.stdout == ""


def test_plan_tells_how_long_so_many_workers_take() -> None:
    hours = [read("plan", "digits", "--workers", n, "--json")["makespan_hours"] for n in ("1", "4", "1000")]
    one = sum(cell["hours"] for cell in read("plan", "digits", "--json")["cells"])
    assert hours[0] == pytest.approx(one)
    assert hours[0] > hours[1] > hours[2] > hours[0] / 1000
    assert "makespan_hours" not in read("plan", "digits", "--json")
    assert re.search(
        r"^from nothing on 4 such workers: about \d+ min$", run("plan", "digits", "--workers", "4").stdout, re.M
    )


def test_plan_shows_the_packs_that_a_launch_on_so_many_workers_would_train(tmp_path: Path) -> None:
    plain = read("plan", "quickstart", "--json")
    assert "order" not in plain
    for workers in (1, 8, 512):
        found = read("plan", "quickstart", "--workers", str(workers), "--json")
        placement = place(QUICKSTART, Speeds().costs(QUICKSTART), workers)
        sizes = {str(cell.name): cell.packing for cell in placement.cells}
        assert found["workers"] == workers
        assert found["busy_share"] == pytest.approx(placement.busy)
        assert found["makespan_hours"] == pytest.approx(placement.span / 3600)
        assert found["order"] == list(sizes)
        for cell in found["cells"]:
            packing = sizes[cell["cell"]]
            assert packing is not None
            assert (cell["search_pack_size"], cell["confirm_pack_size"]) == (packing.search, packing.confirm)
            assert cell["search_packs"] >= cell["search_trials"] / packing.search
        if workers == 1:
            assert found["cells"] == plain["cells"]
    shown = run("plan", "quickstart", "--workers", "512").stdout
    assert "1, 1" in shown
    assert re.search(r"^workers are busy for \d+% of it; sizes are trials per pack", shown, re.M)
    assert "sizes" not in run("plan", "quickstart").stdout


def test_plan_shows_the_packs_that_a_launch_recorded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with open_ledger(url) as ledger:
        ledger.register(QUICKSTART)
        ledger.record_packings(place(QUICKSTART, Speeds().costs(QUICKSTART), 512).cells)
    found = read("plan", "quickstart", "--workers", "1", "--storage", url, "--json")
    assert {cell["search_pack_size"] for cell in found["cells"]} <= {1, 2}
    assert found["cells"] == read("plan", "quickstart", "--storage", url, "--json")["cells"]


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_counts_each_cell_and_names_who_holds_it(ledger: MemoryLedger) -> None:
    first, second, third, fourth = QUICKSTART
    confirm = first.confirm_trials(first.search_trials[0].hyperparameters)
    ledger.rows += rows(first, first.search_trials) + rows(first, confirm)
    ledger.rows += rows(second, second.search_trials[:4], "diverged") + rows(
        second, second.search_trials[4:6], "failed"
    )
    ledger.rows += rows(third, third.search_trials[:2], "running")
    ledger.held[third.name] = Lease(owner="node-1:42", expires="2026-11-24T06:00:00+00:00", active=True)
    ledger.held[fourth.name] = Lease(owner="node-2:43", expires="2026-11-24T05:00:00+00:00", active=False)
    document = read("status", "quickstart", "--json")
    shown = {cell.pop("cell"): cell for cell in document["cells"]}
    assert list(shown) == [str(cell.name) for cell in QUICKSTART]
    assert shown[str(first.name)] == {
        **{"state": "finished", "planned": 12, "complete": 12, "diverged": 0, "failed": 0, "running": 0},
        **{"done": 12, "missing": 0, "finished_share": 1.0, "lease": None, "last_change": None},
        **{"device_hours": 12 * 1.5 / 3600, "left": {"trials": 0, "packs": 0, "device_hours": 0.0}},
    }
    assert [cell["state"] for cell in shown.values()] == ["finished", "failed", "running", "idle"]
    assert document["schema"] == "lawn-tune/status/2"
    assert document["state"] == "running"
    for name in ("planned", "done", "complete", "diverged", "running", "failed", "missing", "device_hours"):
        assert document["total"][name] == pytest.approx(sum(cell[name] for cell in shown.values())), name
    for name in ("trials", "packs", "device_hours"):
        assert document["total"]["left"][name] == pytest.approx(sum(cell["left"][name] for cell in shown.values()))
    for cell in shown.values():
        assert cell["left"]["trials"] == cell["planned"] - cell["done"]
    assert [shown[str(second.name)][key] for key in ("diverged", "failed", "missing")] == [4, 2, 6]
    assert shown[str(third.name)]["lease"]["owner"] == "node-1:42"
    text = run("status").stdout
    assert "4 cells, 16 of 48 trials finished" in text
    assert "node-1:42" in text
    assert "node-2:43 (gone)" in text
    assert ledger.closed


def test_status_of_an_unknown_space_lists_the_known(ledger: MemoryLedger) -> None:
    result = run("status", "quikstart")
    assert result.exit_code == 2
    assert "there is no space 'quikstart': this ledger has: quickstart; built in are: digits" in result.stderr
    assert "Did you mean 'quickstart'?" in result.stderr


@pytest.mark.parametrize("command", [["status"], ["export", "quickstart"]])
def test_without_a_ledger_reading_fails_with_the_next_step(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert "there is no ledger at sqlite:///" in result.stderr
    assert "hint: Run 'lawn-tune launch' first" in result.stderr
    assert not list(Path().iterdir()), "reading makes no ledger"


def test_a_built_in_space_that_was_not_launched_is_to_be_trained(ledger: MemoryLedger) -> None:
    result = run("status", "digits")
    assert result.exit_code == 2
    assert "space 'digits' is not in this ledger, which has: quickstart" in result.stderr
    assert "hint: Train it first: lawn-tune launch digits." in result.stderr


def test_a_file_that_was_not_launched_is_to_be_trained(ledger: MemoryLedger, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    assert "Train it first: lawn-tune launch mine.toml." in run("status", "mine.toml").stderr
    assert "there is no space 'other'" in run("status", "other.toml").stderr


def test_status_reads_a_real_ledger() -> None:
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register(QUICKSTART)
    assert [cell["missing"] for cell in read("status", "--json")["cells"]] == [12] * 4


def test_status_answers_scripts_by_its_exit_code(ledger: MemoryLedger) -> None:
    for cell in QUICKSTART:
        assert run("status", "--check").exit_code == 1
        ledger.rows += rows(cell, cell.search_trials)
        ledger.rows += rows(cell, cell.confirm_trials(cell.search_trials[0].hyperparameters))
    done = run("status", "--check")
    assert done.exit_code == 0
    assert done.stdout == run("status").stdout
    assert read("status", "--json")["state"] == "finished"
    ledger.planned = ()
    assert run("status", "--check").exit_code == 1


# --- export ----------------------------------------------------------------------------------------------------------


def test_export_holds_every_trial_with_all_that_is_known(ledger: MemoryLedger) -> None:
    cell = QUICKSTART[0]
    ledger.rows += rows(cell, cell.search_trials)
    records = read("export", "quickstart")
    assert [record["key"] for record in records] == [trial.key for trial in cell.search_trials]
    assert records[0] == {
        "key": cell.search_trials[0].key,
        "cell": "quickstart/adam/bs64",
        "phase": "search",
        "seed": 0,
        "params": {"peak_lr": 0.01, "warmup_epochs": 2.0, "weight_decay": 0.01},
        "outcome": "complete",
        "epochs": 20,
        "total_epochs": 20,
        "metrics": {"last/validation/accuracy": 90.0, "last/test/accuracy": 90.0, "seconds": 1.5},
        "versions": {"lawn_tune": "0.1.0", "python": "3.11.2", "torch": "2.14.1", "numpy": "2.4.6"},
        "provenance": {"device": "cpu: x86_64", "host": "node-1"},
        "pack": "p1",
        "attempts": 1,
        "error": "",
    }


def test_csv_says_the_same_as_json(ledger: MemoryLedger) -> None:
    for cell in QUICKSTART:  # optimizers with different hyperparameters
        ledger.rows += rows(cell, cell.search_trials)
    records = read("export", "quickstart", "--format", "json")
    lines = list(csv.DictReader(io.StringIO(run("export", "quickstart", "--format", "csv").stdout)))
    assert len(lines) == len(records) == 36
    for line, record in zip(lines, records, strict=True):
        assert line["key"] == record["key"]
        given = {name.removeprefix("params."): float(v) for name, v in line.items() if name.startswith("params.") and v}
        assert given == record["params"]
        assert float(line["metrics.last/test/accuracy"]) == record["metrics"]["last/test/accuracy"]
        assert line["versions.torch"] == "2.14.1"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "|cmd", "%x", "\n=1"])
def test_csv_is_safe_to_open_in_a_spreadsheet(ledger: MemoryLedger, text: str) -> None:
    cell = QUICKSTART[0]
    hostile = replace(row(cell, cell.search_trials[0], "failed", error=text), provenance={**PROVENANCE, text: text})
    ledger.rows.append(hostile)
    fields = list(csv.reader(io.StringIO(run("export", "quickstart", "--format", "csv").stdout)))
    assert "'" + text.replace("\r", "\n") in fields[1]
    assert not [field for line in fields for field in line if field.strip()[:1] in tuple("=+-@|%") and field.strip()]


def test_numbers_stay_numbers_in_csv(ledger: MemoryLedger) -> None:
    cell = QUICKSTART[0]
    ledger.rows.append(row(cell, cell.search_trials[0], value=-1.25))
    line = next(csv.DictReader(io.StringIO(run("export", "quickstart", "--format", "csv").stdout)))
    assert line["metrics.last/test/accuracy"] == "-1.25"


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_not_a_number_is_null(ledger: MemoryLedger, value: float | None) -> None:
    cell = QUICKSTART[0]
    ledger.rows.append(row(cell, cell.search_trials[0], "diverged", value=value))
    assert read("export", "quickstart")[0]["metrics"]["last/test/accuracy"] is None
    line = next(csv.DictReader(io.StringIO(run("export", "quickstart", "--format", "csv").stdout)))
    assert line["metrics.last/test/accuracy"] == ""


def test_an_empty_space_has_a_header_and_no_trial(ledger: MemoryLedger) -> None:
    assert read("export", "quickstart") == []
    assert run("export", "quickstart", "--format", "csv").stdout.startswith("key,cell,phase,seed,outcome,")


def test_export_to_a_file(ledger: MemoryLedger, tmp_path: Path) -> None:
    ledger.rows += rows(QUICKSTART[0], QUICKSTART[0].search_trials)
    shown = run("export", "quickstart.toml", "--format", "csv").stdout
    assert run("export", "quickstart", "--format", "csv", "--output", "out.csv").stdout == ""
    assert (tmp_path / "out.csv").read_text() == shown
    result = run("export", "quickstart", "--output", "no/folder/out.json")
    assert result.exit_code == 2
    assert "--output: cannot write 'no/folder/out.json': No such file or directory" in result.stderr


def test_an_unknown_format_lists_the_known(ledger: MemoryLedger) -> None:
    result = run("export", "quickstart", "--format", "xml")
    assert result.exit_code == 2
    assert "json" in result.stderr
    assert "csv" in result.stderr
