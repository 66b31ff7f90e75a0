"""A fabricated study with everything that pages about trials show: curves, bins, diverged and failed trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.memory_source import MemorySource, confirm_rows, make_cell, search_rows

EVIL = '=HYPERLINK("x")<img src=x onerror=alert(1)>'
EPOCHS = 20
Curve = dict[str, NDArray[np.float64]]

VALUES: Sequence[float | Outcome] = (80.0, 82.0, 84.0, 86.0, 90.0, 88.0, "diverged", "failed", 92.0)


class Damaged(MemorySource):
    """A ledger in which the curve of one trial cannot be read."""

    broken: str = ""

    def curves(self, keys: Sequence[str]) -> dict[str, Curve]:
        if self.broken in keys:
            raise ValueError("damaged curve: incorrect header check")
        return super().curves(keys)


def studied(space: str = "digits") -> Damaged:
    """Two rivals at one batch size, searched, confirmed, with curves; one error text tries to break out."""
    source = Damaged()
    for optimizer, gain in (("adam", 0.0), ("adam-lawn", 1.0)):
        cell = make_cell(optimizer, space=space, epochs=EPOCHS)
        source.planned.append(cell)
        rows = search_rows(cell, [value + gain if isinstance(value, float) else value for value in VALUES])
        rows += confirm_rows(cell, cell.grid.point(8), [91.0 + gain, 91.5 + gain, 90.5 + gain])
        source.rows += [finished(cell, row, i) for i, row in enumerate(rows)]
        source.series |= {row.key: curve(cell, row) for row in rows if row.outcome in ("complete", "diverged")}
    return source


def finished(cell: Cell, row: TrialRow, i: int) -> TrialRow:
    """The row with what training adds to it."""
    ended = dict(row.provenance) | {"ended": f"2026-11-24T05:{i:02d}:00.000+00:00"}
    if row.outcome == "failed":
        return replace(row, error=EVIL, provenance=ended)
    if row.outcome == "diverged":
        return replace(row, provenance=ended)
    value = next(v for name, v in row.summary.items() if name.startswith("last/"))
    more: dict[str, float | None] = {f"last/test/{cell.protocol.metric}": (value or 0) - 1, "last/train_loss": 0.25}
    bins: dict[str, float | None] = {
        f"calibration/{what}/{place:02d}": x
        for place in (9, 14)
        for what, x in (("examples", 50.0), ("confidence", (place + 0.5) / 15), ("accuracy", place / 15))
    }
    return replace(row, summary=more | dict(row.summary) | bins | {"ece": 1 / 30}, provenance=ended)


def curve(cell: Cell, row: TrialRow) -> Curve:
    """Every series that training records."""
    t = np.arange(1, EPOCHS + 1, dtype=np.float64)
    free = row.hyperparameters.get("free_epochs", EPOCHS)
    norm = 1 + np.minimum(t, max(1.0, free))
    metric = cell.protocol.metric
    found = {
        "train_loss": np.exp(-t / 5) + 0.01,
        f"validation/{metric}": 90 - 40 * np.exp(-t / 4),
        f"test/{metric}": 89 - 40 * np.exp(-t / 4),
        "weight_norm": 3 * norm,
        "last_layer_norm": norm,
        "grad_norm": np.exp(-t / 9),
        "learning_rate": row.hyperparameters["peak_lr"] * (1 - t / EPOCHS),
        "margin_p10": t / 10,
        "margin_p50": t / 5,
        "margin_p90": t / 2,
    }
    return {name: values for name, values in found.items() if row.phase == "search" or not name.startswith("valid")}
