"""Cards that fill themselves and follow the ledger: figures, and blocks of anything else; `table_card` has tables."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple, cast

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dashboards import style
from dashboards.web import components
from dashboards.web.filters import AskedFilters
from dashboards.web.markup import Markup, tree
from dashboards.web.page import HERE, THEME, VERSION, Empty, Page, View
from dashboards.web.snapshot import Remembered, Snapshots
from lawn_tune.errors import LawnTuneError

LOG = logging.getLogger("lawn_tune.dashboard")

Place = Mapping[str, Any]


class Drawing(NamedTuple):
    """A figure as plain JSON values (`figures.plain`), and what is seen in it in one or two sentences of numbers."""

    figure: Mapping[str, Any]
    summary: str


class Shown(NamedTuple):
    """What a card sends to the browser: its content, or a note in place of it."""

    content: Any
    note: Component | None


def page(
    *,
    path: str,
    title: str,
    order: int,
    cards: Sequence[Card],
    listed: bool = True,
    lead: Callable[[View], components.Content] = lambda view: None,
    controls: Callable[[View], Sequence[Component]] = lambda view: (),
) -> Page:
    """Returns a page of controls and cards.

    Args:
        path, title, order, listed: see `Page`.
        cards: in reading order; two share a row where there is room and neither is `wide`.
        lead: a sentence or two below the title.
        controls: made by `components.choice`.
    """

    name = path.strip("/") or "verdict"
    damaged = Block(
        name=f"{name}-damage", title="Damaged in the ledger", render=damage, wide=True, brief=True, early=True
    )
    cards = (damaged, *cards)

    def layout(view: View) -> Component:
        intro, chosen = lead(view), controls(view)
        return html.Div(
            [
                *([html.P(intro, className="lead")] if intro else []),
                *([components.controls(*chosen)] if chosen else []),
                html.Div(_arranged(cards, view), className="cards"),
            ]
        )

    def register(app: Dash, source: Snapshots) -> None:
        for card in cards:
            card.register(app, source)

    return Page(path=path, title=title, order=order, listed=listed, layout=layout, register=register)


def _arranged(cards: Sequence[Card], view: View) -> list[Component]:
    """Returns the cards in order; those between two wide ones stand in two columns, left and right in turn."""
    found: list[Component] = []
    for wide, group in groupby(cards, key=lambda card: card.wide):
        laid = [card.layout(view) for card in group]
        found += laid if wide else [html.Div([html.Div(laid[::2]), html.Div(laid[1::2])], className="columns")]
    return found


@dataclass(frozen=True, kw_only=True)
class Card(ABC):
    """One card.

    Args:
        name: unique in the application: "<page>-<what>".
        title: its heading.
        help: one sentence on how to read it, below the heading.
        wide: it takes a whole row.
        brief: it is hidden while it is `Empty`.
        choices: view → controls of its own, made by `components.choice`.
    """

    name: str
    title: str
    help: str = ""
    wide: bool = False
    brief: bool = False
    choices: Callable[[View], Sequence[Component]] = lambda view: ()

    def layout(self, view: View) -> Component:
        """Returns the card without its content."""
        return self.laid(view, self.body(view))

    def laid(self, view: View, body: Sequence[Component], shown: Shown | None = None) -> Component:
        """Returns the card around its body, which is waiting for content unless that is `shown` in it."""
        choices = self.choices(view)
        head = html.Header(
            [html.H2(self.title, id=f"{self.name}-title"), html.Div(self.actions(), className="actions")]
        )
        return html.Section(
            [
                head,
                *([html.Div(list(choices), className="controls within")] if choices else []),
                *([html.P(self.help, className="help")] if self.help else []),
                html.Div(shown and shown.note, id=f"{self.name}-note"),
                html.Div(list(body), id=f"{self.name}-body", className=_state(shown)),
                dcc.Store(id=f"{self.name}-seen", data=shown and _digest(shown)),
            ],
            className=f"card {self.name}{' wide' if self.wide else ''}{' brief' if self.brief else ''}",
            id=self.name,
            **components.aria(labelledby=f"{self.name}-title"),
        )

    def register(self, app: Dash, source: Snapshots) -> None:
        """Adds the callback that fills the card while its page is shown."""

        @app.callback(
            *self.outputs(),
            Output(f"{self.name}-note", "children"),
            Output(f"{self.name}-body", "className"),
            Output(f"{self.name}-seen", "data"),
            Input(HERE, "data"),
            Input(VERSION, "data"),
            State(f"{self.name}-seen", "data"),
        )
        def fill(place: Place | None, version: str, seen: str | None) -> list[Any]:
            shown = self.shown(source, place or {})
            digest = _digest(shown)
            if digest == seen:
                raise PreventUpdate
            values = self.values(shown.content) if shown.note is None else [no_update] * len(self.outputs())
            return [*values, shown.note, _state(shown), digest]

    def shown(self, source: Snapshots, place: Place) -> Shown:
        """Returns what to show: a failure is reported by this card alone."""
        try:
            return _shown(self.content(View.of(source, place)))
        except LawnTuneError as error:
            return Shown(None, components.failure(error.message, error.hint or ""))
        except Exception as error:
            return Shown(None, components.failure(logged(self.name, error), "The other cards are not affected."))

    def actions(self) -> list[Component]:
        """Returns the buttons next to the heading."""
        return []

    @abstractmethod
    def body(self, view: View) -> list[Component]:
        """Returns what holds the content."""

    @abstractmethod
    def outputs(self) -> list[Output]:
        """Returns what the callback fills."""

    @abstractmethod
    def content(self, view: View) -> Any:
        """Returns the content, or Empty."""

    @abstractmethod
    def values(self, content: Any) -> list[Any]:
        """Returns the content as values of the outputs."""


@dataclass(frozen=True, kw_only=True)
class FigureCard(Card):
    """A figure, with a summary in words and buttons that save it as SVG or PNG.

    Args:
        draw: view → what is drawn.
        height: pixels kept free until it is.
        subject: view → what of the space is drawn, for the names of saved files.
    """

    draw: Callable[[View], Drawing | Empty]
    height: int = 380
    subject: Callable[[View], str] = lambda view: ""

    def actions(self) -> list[Component]:
        """See `Card.actions`."""
        return [
            html.Button(
                kind.upper(),
                type="button",
                className="quiet",
                title=f"Save as {kind.upper()}",
                **components.data(export=kind, card=self.name),
                **components.aria(label=f"Save {self.title} as {kind.upper()}"),
            )
            for kind in ("svg", "png")
        ]

    def body(self, view: View) -> list[Component]:
        """See `Card.body`."""
        graph = dcc.Graph(
            id=graph_id(self.name),
            figure={"layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}}},  # Plotly draws it at once
            config=cast(Any, dict(style.CONFIG) | {"responsive": True}),
            className="graph",
        )
        named = components.aria(label=self.title, describedby=f"{self.name}-summary")
        return [
            html.Div(graph, role="figure", style={"minHeight": f"{self.height}px"}, **named),
            html.P(id=f"{self.name}-summary", className="summary"),
            dcc.Store(id=f"{self.name}-drawing"),
        ]

    def register(self, app: Dash, source: Snapshots) -> None:
        """See `Card.register`; the drawing is put into its graph in the colors of the theme, in the browser.

        The graph's id is a text: where it is a pattern, Dash redraws after every zoom, and the zoom is lost.
        """
        super().register(app, source)
        clientside(
            app,
            "draw",
            Output(graph_id(self.name), "figure"),
            Output(graph_id(self.name), "style"),
            Input(f"{self.name}-drawing", "data"),
            Input(THEME, "data"),
        )
        clientside(
            app,
            "zoomed",
            Output(f"{self.name}-title", "title"),
            Input(graph_id(self.name), "relayoutData"),
            prevent_initial_call=True,
        )

    def outputs(self) -> list[Output]:
        """See `Card.outputs`."""
        return [Output(f"{self.name}-drawing", "data"), Output(f"{self.name}-summary", "children")]

    def content(self, view: View) -> Drawing | Empty:
        """See `Card.content`; a viewer's zoom is kept until the space changes, or a filter that the figure follows."""
        filters = AskedFilters(view.filters.values)
        drawn = self.draw(replace(view, filters=filters))
        if isinstance(drawn, Empty):
            return drawn
        followed = [pair for pair in filters.values if pair[0] in filters.asked]
        layout = {**drawn.figure["layout"], "uirevision": f"{view.space} {followed}", "meta": self.subject(view)}
        return Drawing({"data": drawn.figure["data"], "layout": layout}, drawn.summary)

    def values(self, content: Drawing) -> list[Any]:
        """See `Card.values`."""
        return [content.figure, content.summary]


@dataclass(frozen=True, kw_only=True)
class Block(Card):
    """Anything else: components of `components` and `dash.html`.

    Args:
        render: view → the content.
        early: the card comes with its content, as far as that needs no reading; for what is quickly computed.
    """

    render: Callable[[View], Component | Sequence[Component] | Empty]
    early: bool = False

    def layout(self, view: View) -> Component:
        """See `Card.layout`."""
        if self.early:
            with suppress(Exception):  # which the callback reports
                known = Remembered(view.source)
                shown = _shown(self.content(replace(view, source=known, snapshot=known.snapshot(view.space))))
                return self.laid(view, self.values(shown.content) if shown.note is None else [], shown)
        return super().layout(view)

    def body(self, view: View) -> list[Component]:
        """See `Card.body`."""
        return []

    def outputs(self) -> list[Output]:
        """See `Card.outputs`."""
        return [Output(f"{self.name}-body", "children")]

    def content(self, view: View) -> Any:
        """See `Card.content`."""
        content = self.render(view)
        return content if isinstance(content, Empty) else tree(content)

    def values(self, content: Any) -> list[Any]:
        """See `Card.values`."""
        return [Markup(content)]


MAX_DAMAGE = 12


def damage(view: View) -> Component | Empty:
    """Returns which cells and trials cannot be read, and what to do; everything else of the page is not affected."""
    found = view.snapshot.damage
    if not found:
        return Empty("Every row of this space can be read.")
    listed = [html.Li(text) for text in (found if len(found) <= MAX_DAMAGE else (*found[: MAX_DAMAGE - 1], found[-1]))]
    more = [html.Li(f"and {len(found) - MAX_DAMAGE} more.")] if len(found) > MAX_DAMAGE else []
    return html.Ul([*listed, *more], className="caveats", role="alert")


def graph_id(card: str) -> str:
    """Returns the id of a figure card's graph, for callbacks of a page's own: `Input(graph_id(card), "clickData")`."""
    return f"{card}-graph"


def clientside(app: Dash, function: str, *dependencies: Any, **options: Any) -> None:
    """Adds a callback that runs in the browser: a function of `assets/lawn.js`; the policy allows no other."""
    add: Any = app.clientside_callback
    add(ClientsideFunction("lawn", function), *dependencies, **options)


def _shown(content: Any) -> Shown:
    return Shown(None, components.empty(content)) if isinstance(content, Empty) else Shown(content, None)


def _state(shown: Shown | None) -> str:
    """Returns the classes of a card's body."""
    return "body waiting" if shown is None else "body" if shown.note is None else "body none"


def _digest(shown: Shown) -> str:
    """Returns what differs whenever the card would look different."""
    return hashlib.blake2b(json.dumps(shown, default=repr).encode(), digest_size=12).hexdigest()


def logged(card: str, error: Exception) -> str:
    """Logs an unexpected error, and returns what a viewer may know of it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "unknown place"
    LOG.error("card '%s': %s: %s (%s)", card, type(error).__name__, error, where)
    return f"{type(error).__name__} in '{card}'; see the server's log."
