"""A card with a large table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dash_ag_grid as dag
from dash import Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from dashboards.web import components
from dashboards.web.cards import Card, clientside
from dashboards.web.columns import Column
from dashboards.web.page import Empty, View
from dashboards.web.snapshot import Snapshots

Rows = Sequence[Mapping[str, Any]]

ROW, HEAD = 32, 36
"""Pixels: a row, and the heading."""


@dataclass(frozen=True, kw_only=True)
class TableCard(Card):
    """A table that sorts, filters and is saved as CSV; for many rows.

    Args:
        columns: view → columns, made by `columns.text`, `columns.number`, …; read when the page or space changes.
        rows: view → rows of plain JSON values, each with a unique "key".
        most: rows seen at once, before it scrolls.
    """

    columns: Callable[[View], Sequence[Column]]
    rows: Callable[[View], Rows | Empty]
    most: int = 14
    wide: bool = True

    def actions(self) -> list[Component]:
        """See `Card.actions`."""
        search = dcc.Input(
            id=f"{self.name}-search", type="search", placeholder="Search", className="search", debounce=False,
            autoComplete="off",
        )  # fmt: skip
        label = html.Label(f"Search {self.title}", htmlFor=f"{self.name}-search", className="unseen")
        csv = html.Button(
            "CSV",
            type="button",
            className="quiet",
            title="Save as CSV",
            **components.data(csv=f"{self.name}-grid"),
            **components.aria(label=f"Save {self.title} as CSV"),
        )
        return [label, search, csv]

    def body(self, view: View) -> list[Component]:
        """See `Card.body`."""
        grid = dag.AgGrid(
            id=f"{self.name}-grid",
            columnDefs=[dict(column) for column in self.columns(view)],
            rowData=[],
            getRowId="params.data.key",
            columnSize="responsiveSizeToFit",
            defaultColDef={"sortable": True, "filter": True, "resizable": True, "minWidth": 90},
            dashGridOptions={
                "rowHeight": ROW,
                "headerHeight": HEAD,
                "animateRows": False,
                "enableCellTextSelection": True,
                "suppressFieldDotNotation": True,
                "localeText": {"noRowsToShow": "No rows"},
            },
            style={"height": f"{HEAD + 3 * ROW}px"},
        )
        return [html.Div(grid, role="region", **components.aria(label=self.title))]

    def register(self, app: Dash, source: Snapshots) -> None:
        """See `Card.register`; the search box filters in the browser, and the address keeps order and filters."""
        super().register(app, source)
        clientside(
            app,
            "restore",
            Output(f"{self.name}-title", "title"),
            Input(f"{self.name}-grid", "rowData"),
            State(f"{self.name}-grid", "id"),
        )
        clientside(
            app,
            "search",
            Output(f"{self.name}-search", "className"),
            Input(f"{self.name}-search", "value"),
            State(f"{self.name}-search", "id"),
            prevent_initial_call=True,
        )

    def outputs(self) -> list[Output]:
        """See `Card.outputs`."""
        return [Output(f"{self.name}-grid", "rowData"), Output(f"{self.name}-grid", "style")]

    def content(self, view: View) -> Rows | Empty:
        """See `Card.content`."""
        return self.rows(view)

    def values(self, content: Rows) -> list[Any]:
        """See `Card.values`."""
        shown = max(1, min(len(content), self.most))
        return [list(content), {"height": f"{HEAD + shown * ROW + 4}px"}]
