"""Trials as rows of a large table, and what leads from a trial to its dynamics; shared by pages, not a page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dash import Dash, Input, Output, State, html
from dash.development.base_component import Component

from dashboards.figures.base import capital
from dashboards.web import columns
from dashboards.web.cards import clientside, graph_id
from dashboards.web.columns import Column
from dashboards.web.comparison_part import main_cell
from dashboards.web.components import data
from dashboards.web.page import Empty, View
from dashboards.web.snapshot import Snapshots
from dashboards.web.table_card import ROW, TableCard
from lawn_tune.cells import Cell
from lawn_tune.results import TrialRow, finite
from lawn_tune.words import hyperparameter, metric_name, metric_of
from search_spaces.levels import is_word
from search_spaces.levels import text as level_text

DYNAMICS = "/dynamics"
TRIAL = "trial"
"""Path and filter of the page that shows trials from inside."""

MAX_TRIALS = 8
"""Trials that can be distinguished when shown together."""


def cell_of(view: View) -> Cell:
    """Returns the cell that the URL names, else the one that the page opens on."""
    cells, wanted = view.snapshot.cells, view.filters.one("cell")
    return next((cell for cell in cells if str(cell.name) == wanted), None) or main_cell(cells)


def trial_rows(view: View, cell: Cell) -> list[dict[str, Any]]:
    """Returns a cell's trials as rows; computed once per snapshot."""
    rows = view.snapshot.rows_of(cell)
    return view.snapshot.once(f"table {cell.name}", lambda: [_row(view, cell, row) for row in rows])


def trial_columns(cell: Cell, rows: Sequence[TrialRow]) -> list[Column]:
    """Returns the columns of `trial_rows`: those that no trial fills are left out."""
    metric = metric_of(cell.protocol.metric)
    name, unit = metric_name(cell.protocol.metric), f", {metric.unit}" if metric.unit else ""
    hyperparameters = dict.fromkeys(n for row in rows for n in row.hyperparameters) or cell.grid.values
    found = [
        columns.link("trial", "Trial", "to", width=170, hint="opens the trial"),
        columns.text("phase", "Phase", width=95),
        columns.number("seed", "Seed", width=80),
        *(_hyperparameter(cell, n) for n in hyperparameters),
        columns.outcome(),
        columns.number("validation", f"Validation {name}{unit}", digits=metric.digits, width=125, hint="last epoch"),
        columns.number("test", f"Test {name}{unit}", digits=metric.digits, width=115, hint="last epoch"),
        columns.number(
            "best_test", f"Best test {name}{unit}", digits=metric.digits, width=115, hint="best of all epochs"
        ),
        columns.number("train_loss", "Train loss", width=105, hint="last epoch"),
        columns.number("margin", "Median margin", width=105, hint="last epoch, logits"),
        columns.number(
            "ece", "ECE", digits=4, width=85, hint="expected calibration error on test, a fraction; lower is better"
        ),
        columns.number("epochs", "Epochs", width=85),
        columns.number(
            "seconds", "Device time, s", digits=1, width=100, hint="time of its pack over the pack's trials"
        ),
        columns.text("ended", "Ended (UTC)", width=150),
        columns.text("error", "Error", width=160),
    ]
    shown = trial_fields(cell, rows)
    found = [column for column in found if column["field"] in shown or column["field"] in hyperparameters]
    return [{**column, "width": max(column.get("width", 0), _broad(column["headerName"]))} for column in found]


def _hyperparameter(cell: Cell, name: str) -> Column:
    title = capital(hyperparameter(name))
    return columns.text(name, title, width=130) if _has_words(cell, name) else columns.number(name, title, width=110)


def _has_words(cell: Cell, name: str) -> bool:
    return any(map(is_word, cell.grid.values.get(name, ())))


def _broad(title: str) -> int:
    """Returns the pixels in which no word of a heading breaks, next to its menu."""
    return 62 + 8 * max(map(len, title.split()))


def trial_fields(cell: Cell, rows: Sequence[TrialRow]) -> set[str]:
    """Returns the fields that some trial fills."""
    values = [_values(cell, row) for row in rows]
    always = {"trial", "phase", "seed", "outcome", "epochs"}
    return always | {name for row in values for name, value in row.items() if value not in (None, "")}


def href(view: View, keys: Sequence[str]) -> str:
    """Returns the address that shows trials from inside."""
    return view.href(DYNAMICS, **{TRIAL: list(keys)})


def _row(view: View, cell: Cell, row: TrialRow) -> dict[str, Any]:
    measured = {name: value for name, value in _values(cell, row).items() if value not in (None, "")}
    subject = row.cell.partition("/")[2]  # names the file of a saved table
    named = {"key": row.key, "trial": row.key, "to": view.href("/trial", **{TRIAL: row.key}), "subject": subject}
    worded = {name for name in row.hyperparameters if _has_words(cell, name)}
    return named | measured | {n: level_text(v) if n in worded else v for n, v in row.hyperparameters.items()}


def _values(cell: Cell, row: TrialRow) -> dict[str, Any]:
    metric = cell.protocol.metric
    names = {
        "validation": f"last/validation/{metric}",
        "test": f"last/test/{metric}",
        "best_test": f"best/test/{metric}",
        "train_loss": "last/train_loss",
        "margin": "last/margin_p50",
        "ece": "ece",
        "seconds": "seconds",
    }
    measured = {field: finite(row.summary.get(name)) for field, name in names.items()}
    ended = str(row.provenance.get("ended", ""))[:16].replace("T", " ")
    rest = {"phase": row.phase, "seed": row.seed, "outcome": row.outcome, "epochs": row.epochs}
    return rest | measured | {"ended": ended, "error": " ".join(row.error.split())[:300]}


_HEAD, _BAR = 52, 18
"""Pixels: a heading of two lines, and what a scroll bar takes."""

# --- the card --------------------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """What the card shows: columns differ from cell to cell."""

    columns: list[Column]
    rows: list[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TrialTable(TableCard):
    """A cell's trials; those that are ticked are opened together."""

    def actions(self) -> list[Component]:
        """See `Card.actions`."""
        opener = html.A(
            "Tick trials to compare them",
            id=f"{self.name}-open",
            className="quiet faint",
            **data(nav="", base=DYNAMICS),
        )
        return [opener, *super().actions()]

    def body(self, view: View) -> list[Component]:
        """See `Card.body`."""
        parts = super().body(view)
        grid = parts[0].children
        grid.columnSize = None
        grid.defaultColDef |= {"wrapHeaderText": True}
        grid.dashGridOptions |= {
            "headerHeight": _HEAD,
            "rowSelection": {"mode": "multiRow", "checkboxes": True, "headerCheckbox": False},
            "selectionColumnDef": {"width": 44, "pinned": "left"},
        }
        return parts

    def register(self, app: Dash, source: Snapshots) -> None:
        """See `Card.register`."""
        super().register(app, source)
        clientside(
            app,
            "ticked",
            Output(f"{self.name}-open", "children"),
            Output(f"{self.name}-open", "href"),
            Output(f"{self.name}-open", "className"),
            Input(f"{self.name}-grid", "selectedRows"),
            State("place", "data"),
        )

    def outputs(self) -> list[Output]:
        """See `Card.outputs`."""
        return [Output(f"{self.name}-grid", "columnDefs"), *super().outputs()]

    def content(self, view: View) -> Any:
        """See `Card.content`."""
        rows = self.rows(view)
        return rows if isinstance(rows, Empty) else Listed(list(self.columns(view)), list(rows))

    def values(self, content: Any) -> list[Any]:
        """See `Card.values`."""
        rows, _ = super().values(content.rows)
        shown = max(1, min(len(content.rows), self.most))
        return [content.columns, rows, {"height": f"{_HEAD + shown * ROW + _BAR}px"}]


def opens(app: Dash, *cards: str) -> None:
    """Makes a click on a point of these figure cards open its trials; points carry their keys."""
    for card in cards:
        clientside(
            app,
            "open",
            Output(f"{card}-title", "className"),
            Input(graph_id(card), "clickData"),
            prevent_initial_call=True,
        )
