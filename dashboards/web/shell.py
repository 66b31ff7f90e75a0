"""The frame of every page: header, navigation and footer, and a page's content or the message in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from dashboards import style
from dashboards.web import components
from dashboards.web.cards import logged
from dashboards.web.filters import href
from dashboards.web.page import PLACE, THEME, URL, VERSION, Empty, Page, View
from dashboards.web.snapshot import FRESH_SECONDS, Snapshots
from lawn_tune import __version__
from lawn_tune.errors import LawnTuneError


def shell(source: Snapshots, pages: Sequence[Page]) -> Component:
    """Returns the frame around no page yet, and what its callbacks keep."""
    provider: Component = dmc.MantineProvider(
        [
            dcc.Location(id=URL, refresh=False),
            dcc.Interval(id="clock", interval=int(1000 * FRESH_SECONDS)),
            dcc.Store(id=PLACE),
            dcc.Store(id=VERSION, data=""),
            dcc.Store(id=THEME),
            dcc.Store(id="known", data=_known(source, pages)),
            dcc.Store(id="wanted"),
            dcc.Store(id="laid-out"),
            *frame(source, links(source.base_path, pages)),
        ],
        id="provider",
        theme={"fontFamily": style.FONT, "primaryColor": "dark", "primaryShade": {"light": 7, "dark": 2}},
        defaultColorScheme="light",
    )
    return provider


def _known(source: Snapshots, pages: Sequence[Page]) -> dict[str, Any]:
    """Returns the spaces, the one that an address without a space leads to, and the paths of the pages."""
    return {"spaces": spaces_of(source), "first": first_of(source), "paths": [page.path for page in pages]}


def frame(
    source: Snapshots, nav: Sequence[Component], title: str = "", content: Component | None = None
) -> list[Component]:
    """Returns header, a page's title and content, and footer."""
    main = [html.H1(title, id="title", tabIndex=-1), html.Div(content, id="page", className="page")]
    return [
        html.A("Skip to content", href="#main", className="skip"),
        _header(source, nav),
        html.Main(main, id="main", tabIndex=-1),
        _footer(source),
    ]


def _header(source: Snapshots, nav: Sequence[Component]) -> Component:
    base = source.base_path
    return html.Header(
        [
            html.A(
                [html.Img(src=f"{base}/assets/icon.svg", alt="", width=20, height=20), "lawn_tune"],
                href=f"{base}/",
                className="brand",
                **components.data(nav="/"),
            ),
            html.Nav(list(nav), id="nav", **components.aria(label="Pages")),
            html.Div(
                [
                    html.Label("Space", htmlFor="space", className="unseen"),
                    dmc.Select(
                        id="space", data=spaces_of(source), allowDeselect=False, searchable=True, size="xs",
                        placeholder="no space", className="space", nothingFoundMessage="no such space",
                    ),
                    html.Span(id="live", className="live", role="status", **components.aria(live="polite")),
                    html.Button(id="toggle", type="button", className="toggle", n_clicks=0),
                ],
                className="tools",
            ),
        ],
        className="top",
    )  # fmt: skip


def links(base: str, pages: Sequence[Page], space: str = "", current: Page | None = None) -> list[Component]:
    """Returns the navigation."""
    return [_link(base, page, space, page is current) for page in pages if page.listed]


def _link(base: str, page: Page, space: str, current: bool) -> Component:
    marked = components.aria(current="page") if current else {}
    return html.A(page.title, href=base + href(page.path, space), **components.data(nav=page.path), **marked)


def _footer(source: Snapshots) -> Component:
    where = [html.Span(["Ledger ", html.Code(source.shown)])] if source.shown else []
    return html.Footer([*where, html.Span(f"lawn_tune {__version__}"), html.Span("read-only", className="faint")])


def title_of(page: Page | None) -> str:
    """Returns the heading of a page."""
    return page.title if page else "No such page"


def content_of(page: Page | None, source: Snapshots, place: Mapping[str, Any]) -> Component:
    """Returns the page's skeleton, or a message in its place, errors included."""
    if page is None:
        return components.empty(Empty("There is no page at this address.", "Choose one of those at the top."))
    try:
        if not source.spaces():
            return components.empty(nothing_launched(source))
        return page.layout(View.of(source, place))
    except LawnTuneError as error:
        return components.failure(error.message, error.hint or "")
    except Exception as error:
        return components.failure(logged(f"page {page.path}", error), "The other pages are not affected.")


def nothing_launched(source: Snapshots) -> Empty:
    """Returns the message for an empty ledger."""
    return Empty(
        "Nothing has been launched into this ledger yet.",
        "Start the demo or your own space; its trials appear here while they train, without reloading.",
        f"lawn-tune launch quickstart {source.storage}".rstrip(),
    )


def spaces_of(source: Snapshots) -> list[str]:
    """Returns the ledger's spaces; none where it cannot be read, which the page then says."""
    try:
        return list(source.spaces())
    except LawnTuneError:
        return []


def first_of(source: Snapshots) -> str:
    """Returns the space of an address without one; "" where the ledger cannot be read."""
    try:
        return source.first()
    except LawnTuneError:
        return ""
