"""The contract of a page, and what a page is given.

A page is a value, `Page`, that `pages/__init__.py` lists; nothing else knows it. Most pages are controls and cards:

    PAGE = page(                                          # dashboards.web.cards
        path="/cell", title="Cell", order=30,
        lead=lambda view: "One cell's grid, and every trial of it.",
        controls=lambda view: [choice(view, "cell", "Cell", options)],         # dashboards.web.components
        cards=(
            FigureCard(name="cell-grid", title="Grid", draw=draw_grid),        # view → Drawing | Empty
            TableCard(name="cell-trials", title="Trials", columns=columns, rows=rows),   # view → rows | Empty
            Block(name="cell-notes", title="Caveats", render=notes),           # view → dash.html | Empty
        ),
    )

How it runs:

- All state is in the URL: the path names the page, `?space=` the space, every other name is a filter (`Filters`). A
  control made by `components.choice` writes its value to the URL and reads it back, so that "back" and a copied link
  work; a page registers nothing for it. Values are texts.
- `layout(view)` makes the skeleton once, when the page or the space changes. Each card then fills itself by its own
  callback, and again whenever a filter or the ledger changes; zoom, scroll and selection stay. What would look the same
  is not sent.
- A `Block` with `early=True` comes with its content where no reading is needed for it. It is readable before any script
  has run: `early.py` writes the page as HTML into the server's first answer.
- A card's function is pure, `View` → numbers. It may raise: its card reports it and the others are not affected. It
  returns `Empty` where there is nothing to show, with the reason and the next step.
- `view.snapshot` is one consistent state of one space, shared by every viewer. What is costly and depends on nothing
  else is computed once per snapshot with `view.snapshot.once(name, compute)`.
- `Drawing.figure` is what `dashboards.figures.plain` returns; template, dark mode, zoom and export are the card's work.
  `Drawing.summary` states what is seen in one or two sentences of numbers, for screen readers.
- Texts are put in as children of components or as values of rows, never as Markdown or HTML, so names are only text.
- Card names are unique in the whole application: "<page>-<what>". Links: `view.href("/cell", cell="digits/adam/bs64")`.
- What is clicked in a figure: `Input(cards.graph_id("cell-grid"), "clickData")` in a callback of the page's own.
- A page never opens a ledger, and knows neither SQL nor Optuna nor Plotly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dash import Dash
from dash.development.base_component import Component

from dashboards.web.filters import Filters, href
from dashboards.web.snapshot import Drivers, Snapshot, Snapshots
from lawn_tune.comparison.next_steps import launch_command
from lawn_tune.errors import UsageError
from lawn_tune.results import DamagedCells

URL, PLACE, HERE, VERSION, THEME = "url", "place", "here", "version", "theme"
"""Ids of the shell: the location; `{path, space, filters}` of the URL, and the same of the page that is laid out, which
comes and goes with it; the space's change token; "light" or "dark".

A callback of a page's own takes `Input(HERE, "data")` and `Input(VERSION, "data")` and calls `View.of(source, place)`;
it is not called for a page that is being left.
"""


@dataclass(frozen=True)
class Empty:
    """Shown in place of a card's content: why there is none, and what to do; `command` can be copied."""

    reason: str
    todo: str = ""
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """What a page gets.

    Args:
        spaces: every space of the ledger, in alphabetical order.
        snapshot: the state of the space that is shown.
        filters: those of the URL, without the space.
        source: gives snapshots of other spaces.
    """

    spaces: tuple[str, ...]
    snapshot: Snapshot
    filters: Filters
    source: Snapshots

    @staticmethod
    def of(source: Snapshots, place: Mapping[str, Any]) -> View:
        """Returns the view of a place `{path, space, filters}` as `PLACE` holds it.

        Raises:
            UsageError: the ledger has no such space.
        """
        spaces, space = source.spaces(), str(place.get("space") or "")
        if space not in spaces:
            raise UsageError(f"there is no space '{space}' in this ledger", "Choose one from the list at the top.")
        filters = Filters.from_dict(place.get("filters") or {})
        return View(spaces=spaces, snapshot=source.snapshot(space), filters=filters, source=source)

    @property
    def space(self) -> str:
        """The name of the space that is shown."""
        return self.snapshot.space

    @property
    def drivers(self) -> Drivers:
        """Cell → the driver that holds it now; see `snapshot.Driver`."""
        return self.source.drivers()

    def href(self, path: str, **filters: str | list[str]) -> str:
        """Returns the URL of a page of this space."""
        return self.source.base_path + href(path, self.space, Filters.of(**filters))

    def command(self, text: str) -> str:
        """Returns a command to type: `lawn-tune <text>` with this ledger's address; without any password."""
        return f"lawn-tune {text} {self.source.storage}".rstrip()

    @property
    def launch(self) -> str:
        """The command that trains what is missing, "" if none can; the file of a user's own space is a placeholder."""
        command = launch_command([result.cell for result in self.snapshot.comparison.cells])
        return command and f"{command} {self.source.storage}".rstrip()

    def at(self, space: str) -> View:
        """Returns the view of another space of the ledger."""
        return replace(self, snapshot=self.source.snapshot(space))

    def every(self) -> Iterator[View]:
        """Yields the view of every space of the ledger that can be read."""
        for space in self.spaces:
            with suppress(DamagedCells):
                yield self.at(space)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page.

    Args:
        path: of its URL, "/compare".
        title: in the navigation and the browser's title.
        order: in the navigation, ascending.
        listed: it is in the navigation; others are reached by links.
        layout: view → the skeleton, below the page's title; called when page or space changes.
        register: adds the page's callbacks to the application, once.
    """

    path: str
    title: str
    order: int
    listed: bool = True
    layout: Callable[[View], Component]
    register: Callable[[Dash, Snapshots], None]
