"""A comparison as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from lawn_tune.cells import CellName
from lawn_tune.comparison.comparison import CellResult, Comparison, PairResult
from lawn_tune.comparison.renderers.csv_field import csv_field
from lawn_tune.words import setting


def csv_text(comparison: Comparison) -> str:
    """Returns one line a cell, with its difference from its baseline; a cell with several has a line for each of them.

    Numbers are plain numbers with all their digits; a text that a spreadsheet would read as a formula is quoted.
    """
    pairs: dict[CellName, list[PairResult]] = {}
    for pair in comparison.pairs:
        pairs.setdefault(pair.challenger.cell.name, []).append(pair)
    lines = [(result, pair) for result in comparison.cells for pair in pairs.get(result.cell.name, [None])]
    records = [_csv_record(result, pair) for result, pair in lines]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_field(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _csv_record(result: CellResult, pair: PairResult | None) -> dict[str, Any]:
    cell, estimate = result.cell, result.estimate
    difference = pair.difference if pair else None
    interval = difference.interval if difference else None
    telling = pair.telling if pair else None
    notes = [*result.notes, *(pair.notes if pair else ())]
    return {
        "space": cell.name.space,
        "optimizer": cell.name.optimizer,
        "batch_size": cell.name.batch_size,
        "epochs": cell.task.epochs,
        "metric": cell.protocol.metric,
        "phase": estimate.phase if estimate else None,
        "value": estimate.series if estimate else None,
        "mean": estimate.mean if estimate else None,
        "standard_error": estimate.error if estimate else None,
        "n": estimate.n if estimate else 0,
        "winner": setting(result.winner.hyperparameters) if result.winner else None,
        "published": result.published,
        "seconds": result.seconds,
        "flags": "; ".join(dict.fromkeys(note.flag.value for note in notes)),
        "baseline": pair.baseline.cell.name.optimizer if pair else None,
        "difference": difference.mean if difference else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "paired_seeds": difference.n if difference else None,
        "paired_examples": difference.examples if difference else None,
        "pairs": difference.family if difference else None,
        "detectable": telling.detectable if telling else None,
        "seeds_needed": telling.seeds_needed if telling else None,
        "verdict": pair.verdict.value if pair else None,
    }
