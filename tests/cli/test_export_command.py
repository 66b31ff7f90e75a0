"""`lawn-tune export`: JSON and CSV hold every trial."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.commands import read, run
from tests.helpers.memory_ledger import PROVENANCE, QUICKSTART, MemoryLedger, row, rows

pytestmark = pytest.mark.usefixtures("empty_folder")


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
