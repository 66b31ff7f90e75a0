"""`lawn-tune export`: every trial of a space, for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from lawn_tune.cli.options import Output, SpaceName, Storage
from lawn_tune.cli.printing import writing
from lawn_tune.cli.source import launched, reading_space
from lawn_tune.comparison.renderers.csv_field import csv_field
from lawn_tune.results import BINS, TrialRow, finite

FIELDS = (
    *("key", "cell", "phase", "seed", "params", "outcome", "epochs", "total_epochs"),
    *("metrics", "versions", "provenance", "pack", "attempts", "error"),
)
"""Keys of a record, in order."""

NESTED = ("params", "metrics", "versions", "provenance")
"""Keys of a record that hold a table; in CSV each of its entries is a column, `params.peak_lr`."""


def export(
    space: SpaceName,
    format: Annotated[Literal["json", "csv"], typer.Option("--format", help="What to write.")] = "json",
    output: Output = None,
    storage: Storage = None,
) -> None:
    """Write every trial of a space: key, cell, params, seed, phase, outcome, metrics, versions.

    \b
    Examples:
      lawn-tune export quickstart --format csv --output quickstart.csv
      lawn-tune export quickstart.bundle --format csv
      lawn-tune export quickstart | jq '.[] | select(.phase == "confirm") | .metrics'
    """
    with reading_space(space, storage) as (ledger, name):
        records = [record(row) for row in ledger.trials(launched(ledger, name, storage))]
    text = to_csv(records) if format == "csv" else to_json(records)
    if output is None:
        typer.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text, encoding="utf-8", newline="")


def record(row: TrialRow) -> dict[str, Any]:
    """Returns a trial as plain values; numbers that are not finite become None, as JSON has no word for them."""
    libraries = row.provenance.get("libraries", {})
    own = {name: row.provenance[name] for name in ("lawn_tune", "python") if name in row.provenance}
    rest = {name: value for name, value in row.provenance.items() if name not in ("libraries", *own)}
    return {
        "key": row.key,
        "cell": row.cell,
        "phase": row.phase,
        "seed": row.seed,
        "params": dict(row.hyperparameters),
        "outcome": row.outcome,
        "epochs": row.epochs,
        "total_epochs": row.total_epochs,
        "metrics": {name: finite(value) for name, value in row.summary.items()},
        "versions": own | dict(libraries),
        "provenance": rest,
        "pack": row.pack,
        "attempts": row.attempts,
        "error": row.error,
    }


def to_json(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns a JSON array, one object a trial."""
    return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns a header and one line a trial; columns are the same for all, empty where a trial lacks the value.

    The bins of reliability diagrams are left out: they are many columns that mean nothing alone; JSON has them.
    No text starts like a formula, so a spreadsheet shows what was stored and computes nothing.
    """
    flat = [_flat(record) for record in records]
    plain = [name for name in FIELDS if name not in NESTED]
    columns = dict.fromkeys([*plain, *(name for values in flat for name in values)])
    header = sorted(columns, key=lambda name: FIELDS.index(name.partition(".")[0]))  # stable: entries keep their order
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_field(name) for name in header])
    writer.writerows([[csv_field(values.get(name)) for name in header] for values in flat])
    return text.getvalue()


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in NESTED:
            flat |= {f"{name}.{inner}": each for inner, each in value.items() if not inner.startswith(BINS)}
        else:
            flat[name] = value
    return flat
