"""Times to target as tables, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lawn_tune.comparison.renderers.csv_field import csv_field
from lawn_tune.comparison.renderers.markdown import escaped, pipes
from lawn_tune.comparison.times import CUT, Arrival, Unit, profiles
from lawn_tune.results import finite
from lawn_tune.words import duration, fixed, method

SCHEMA = "lawn-tune/times/2"

HEADER = ("Task", "Method", "Target", "Runs that arrive", "Epochs", "Device time")
PROFILE_HEADER = ("Side", "Pairs", "Faster", f"Within {CUT:g}×", "Score")

DEFINITION = (
    "First epoch whose test value is as good as the mean of the baseline's confirmed runs: median over runs, with the "
    "earliest and the latest; the curves are those of the runs that set the target, and a baseline whose runs "
    "collapsed sets none. Score: area below the performance profile by epochs, the share of pairs in which a side "
    f"takes at most so many times as long as the faster, from 1 to {CUT:g}, as a part of the largest."
)


def arrival_rows(found: Sequence[Arrival]) -> list[list[str]]:
    """Returns the printed cells under `HEADER`."""
    return [
        [
            *(a.task, method(a.cell.split("/")[1]), fixed(a.target, 2), f"{a.arrived} of {a.n}"),
            *(_text(a, "epochs"), _text(a, "device_hours")),
        ]
        for a in found
    ]


def profile_rows(found: Sequence[Arrival]) -> list[list[str]]:
    """Returns the printed cells under `PROFILE_HEADER`."""
    return [
        [p.side, f"{p.pairs}", _percent(p.within(1.0)), _percent(p.within(CUT)), fixed(p.score, 2)]
        for p in profiles(found)
    ]


def _text(arrival: Arrival, unit: Unit) -> str:
    times = arrival.epochs if unit == "epochs" else arrival.device_hours
    middle, first, last = (_number(value, unit) for value in (arrival.median(unit), min(times), max(times)))
    return f"{middle} ({first} to {last})"


def _number(value: float, unit: Unit) -> str:
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "never"
    return f"{value:,.6g}" if unit == "epochs" else duration(3600 * value)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _markdown(found: Sequence[Arrival]) -> str:
    tables = [(HEADER, arrival_rows(found)), (PROFILE_HEADER, profile_rows(found))]
    parts = [pipes(header, [[escaped(text) for text in row] for row in rows]) for header, rows in tables]
    return "\n\n".join(part for part in (*parts, escaped(DEFINITION)) if part) + "\n"


def _csv(found: Sequence[Arrival]) -> str:
    """Returns one line a run; a run that never arrives has no times."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("task", "cell", "side", "target", "epochs", "device_hours"))
    for a in found:
        for epochs, hours in zip(a.epochs, a.device_hours, strict=True):
            row = (a.task, a.cell, a.side, a.target, finite(epochs), finite(hours))
            writer.writerow([csv_field(value) for value in row])
    return out.getvalue()


def _json(found: Sequence[Arrival]) -> str:
    values = {
        "schema": SCHEMA,
        "cut": CUT,
        "definition": DEFINITION,
        "arrivals": [_arrival(arrival) for arrival in found],
        "profiles": {unit: [p._asdict() for p in profiles(found, unit)] for unit in ("epochs", "device_hours")},
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _arrival(arrival: Arrival) -> dict[str, Any]:
    times = {unit: [finite(value) for value in getattr(arrival, unit)] for unit in ("epochs", "device_hours")}
    medians = {f"median_{unit}": finite(arrival.median(unit)) for unit in ("epochs", "device_hours")}
    return {**arrival._asdict(), **times, **medians, "n": arrival.n, "arrived": arrival.arrived}


RACES: Mapping[str, Callable[[Sequence[Arrival]], str]] = {"md": _markdown, "csv": _csv, "json": _json}
"""Formats that are text; "rich" prints to a console instead."""
