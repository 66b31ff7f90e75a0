"""The application: a shell of header, navigation and footer around one page at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import dash_mantine_components as dmc
import flask
from dash import ALL, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from dash.exceptions import DependencyException, PreventUpdate

from dashboards import style
from dashboards.figures.base import plotly_file
from dashboards.web import components
from dashboards.web.cards import clientside, logged
from dashboards.web.filters import href
from dashboards.web.page import HERE, PLACE, THEME, URL, VERSION, Empty, Page, View
from dashboards.web.pages import PAGES
from dashboards.web.snapshot import FRESH_SECONDS, Snapshots
from lawn_tune import __version__
from lawn_tune.comparison.renderers.csv_field import FORMULA
from lawn_tune.errors import LawnTuneError
from lawn_tune.results import DamagedCells
from trainables.catalogue.methods import METHODS

TITLE = "lawn_tune"
ASSETS = files("dashboards") / "assets"

CATCH_ALL = "/<path:path>"
"""Flask's name of the route that answers every path without one of its own with the shell."""

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
<link rel="icon" href="BASE/assets/icon.svg" type="image/svg+xml">
<script src="BASE/assets/theme.js"></script>
{%css%}
</head>
<body>
<noscript>This page draws with JavaScript, which is switched off in this browser.</noscript>
<p class="unstyled">The files of this page were not found. Behind a proxy, a dashboard at a path other than / requires
<code>lawn-tune dashboard --base-path /PATH</code>; see docs/dashboard.md.</p>
{%app_entry%}
<script type="application/json" id="lawn-looks">LOOKS</script>
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>"""
"""Every script is a file of ours but the last line, whose hash the policy names; JSON is data and runs nowhere. The
style sheet hides the paragraph, which is visible only where the browser looks for files in the wrong place."""


def create_app(source: Snapshots, pages: Sequence[Page] = PAGES) -> Dash:
    """Returns the application over a ledger. It is read-only: no route writes.

    Args:
        source: the ledger's snapshots; its `base_path` is where browsers find the application.
        pages: the pages.

    Returns:
        The application; `security.guarded(app, …)` is what may be served.
    """
    shown = tuple(sorted(pages, key=lambda page: page.order))
    app = Dash(
        name="dashboards.web",
        title=TITLE,
        update_title="",
        assets_folder=str(ASSETS),
        assets_ignore=r"theme\.js|plotly-.*\.js",
        index_string=INDEX.replace("BASE", source.base_path).replace("LOOKS", _looks(source.base_path)),
        requests_pathname_prefix=f"{source.base_path}/",
        routes_pathname_prefix="/",
        serve_locally=True,
        suppress_callback_exceptions=True,  # a page's components come and go
        use_pages=False,
        compress=False,
        enable_mcp=False,
        add_log_handler=False,
        health_endpoint=None,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.enable_dev_tools(debug=False, dev_tools_ui=False, dev_tools_props_check=False, dev_tools_hot_reload=False)
    app.layout = lambda: _shell(source, shown)
    _register_shell(app, source, shown)
    for page in shown:
        page.register(app, source)
    _register_routes(app.server, source, frozenset(page.path for page in shown))
    return app


def _looks(base: str) -> str:
    """Returns what the browser needs to know of base path and style, as JSON in which no tag can open."""
    methods = {name: style.look(name) for name in METHODS}
    templates = {theme: style.template(theme) for theme in ("light", "dark")}
    return json.dumps({"base": base, "methods": methods, "templates": templates, "formula": FORMULA}).replace(
        "<", "\\u003c"
    )


# --- layout ----------------------------------------------------------------------------------------------------------


def _shell(source: Snapshots, pages: Sequence[Page]) -> Component:
    spaces = _spaces(source)
    shell: Component = dmc.MantineProvider(
        [
            dcc.Location(id=URL, refresh=False),
            dcc.Interval(id="clock", interval=int(1000 * FRESH_SECONDS)),
            dcc.Store(id=PLACE),
            dcc.Store(id=VERSION, data=""),
            dcc.Store(id=THEME),
            dcc.Store(id="known", data=_known(source, pages)),
            dcc.Store(id="wanted"),
            dcc.Store(id="laid-out"),
            html.A("Skip to content", href="#main", className="skip"),
            _header(source.base_path, spaces, pages),
            html.Main(
                [html.H1(id="title", tabIndex=-1), html.Div(id="page", className="page")], id="main", tabIndex=-1
            ),
            _footer(source),
        ],
        id="provider",
        theme={"fontFamily": style.FONT, "primaryColor": "dark", "primaryShade": {"light": 7, "dark": 2}},
        defaultColorScheme="light",
    )
    return shell


def _known(source: Snapshots, pages: Sequence[Page]) -> dict[str, Any]:
    """Returns the spaces, the one that an address without a space leads to, and the paths of the pages."""
    spaces, first = _spaces(source), ""
    with suppress(LawnTuneError):
        first = source.first()
    return {"spaces": spaces, "first": first, "paths": [page.path for page in pages]}


def _header(base: str, spaces: Sequence[str], pages: Sequence[Page]) -> Component:
    listed = [page for page in pages if page.listed]
    links = [html.A(page.title, href=base + page.path, **components.data(nav=page.path)) for page in listed]
    return html.Header(
        [
            html.A(
                [html.Img(src=f"{base}/assets/icon.svg", alt="", width=20, height=20), "lawn_tune"],
                href=f"{base}/",
                className="brand",
                **components.data(nav="/"),
            ),
            html.Nav(links, id="nav", **components.aria(label="Pages")),
            html.Div(
                [
                    html.Label("Space", htmlFor="space", className="unseen"),
                    dmc.Select(
                        id="space", data=list(spaces), allowDeselect=False, searchable=True, size="xs",
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


def _footer(source: Snapshots) -> Component:
    where = [html.Span(["Ledger ", html.Code(source.shown)])] if source.shown else []
    return html.Footer([*where, html.Span(f"lawn_tune {__version__}"), html.Span("read-only", className="faint")])


# --- callbacks -------------------------------------------------------------------------------------------------------


def _register_shell(app: Dash, source: Snapshots, pages: Sequence[Page]) -> None:
    every = {"kind": "filter", "name": ALL, "default": ALL}
    clientside(
        app,
        "sync",
        Output(URL, "search"),
        Output(PLACE, "data"),
        Output("space", "value"),
        Output(every, "value"),
        Input(URL, "pathname"),
        Input(URL, "search"),
        Input("space", "value"),
        Input(every, "value"),
        Input("known", "data"),
        State(PLACE, "data"),
        State(every, "id"),
    )
    clientside(
        app,
        "poll",
        Output(VERSION, "data"),
        Output("live", "children"),
        Output("live", "className"),
        Output("space", "data"),
        Output("known", "data"),
        Input("clock", "n_intervals"),
        Input(PLACE, "data"),
        State(VERSION, "data"),
        State("known", "data"),
    )
    clientside(
        app,
        "theme",
        Output(THEME, "data"),
        Output("provider", "forceColorScheme"),
        Output("toggle", "aria-label"),
        Output("toggle", "title"),
        Input("toggle", "n_clicks"),
    )
    clientside(
        app, "arrive", Output("title", "className"), Input("laid-out", "data"), State(PLACE, "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    _register_layout(app, source, {page.path: page for page in pages})


def _register_layout(app: Dash, source: Snapshots, pages: Mapping[str, Page]) -> None:
    clientside(
        app,
        "route",
        Output("wanted", "data"),
        Input(PLACE, "data"),
        Input("known", "data"),
        Input(VERSION, "data"),
        State("wanted", "data"),
        State("laid-out", "data"),
    )
    clientside(
        app,
        "stay",
        Output(HERE, "data"),
        Input(PLACE, "data"),
        Input("laid-out", "data"),
        State(HERE, "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("page", "children"),
        Output("title", "children"),
        Output("nav", "children"),
        Output("laid-out", "data"),
        Input("wanted", "data"),
        prevent_initial_call=True,
    )
    def lay_out(wanted: Mapping[str, Any] | None) -> list[Any]:
        if not wanted:
            raise PreventUpdate
        place, page = wanted["place"], pages.get(str(wanted["place"]["path"]))
        space = str(place.get("space") or "")
        content, title = _content(page, source, place), page.title if page else "No such page"
        failed = getattr(content, "className", "") == "failure"
        laid_out = {**wanted, "filled": bool(_spaces(source)), "failed": failed}
        listed = [other for other in pages.values() if other.listed]
        links = [_nav_link(source.base_path, other, space, other is page) for other in listed]
        return [[dcc.Store(id=HERE, data=place), content], title, links, laid_out]


def _nav_link(base: str, page: Page, space: str, current: bool) -> Component:
    marked = components.aria(current="page") if current else {}
    return html.A(page.title, href=base + href(page.path, space), **components.data(nav=page.path), **marked)


def _content(page: Page | None, source: Snapshots, place: Mapping[str, Any]) -> Component:
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


def _spaces(source: Snapshots) -> list[str]:
    try:
        return list(source.spaces())
    except LawnTuneError:
        return []


# --- routes ----------------------------------------------------------------------------------------------------------


def _register_routes(server: Any, source: Snapshots, paths: frozenset[str]) -> None:
    server.config["MAX_CONTENT_LENGTH"] = 1_000_000

    @server.get("/_version")  # type: ignore[untyped-decorator]
    def version() -> Any:
        space = flask.request.args.get("space", "")
        try:
            return flask.jsonify(_version(source, space))
        except LawnTuneError as error:
            return flask.jsonify({"error": error.message}), 503
        except Exception as error:
            return flask.jsonify({"error": logged("live refresh", error)}), 500

    @server.get("/_dash-component-suites/plotly/package_data/plotly.min.js")  # type: ignore[untyped-decorator]
    def plotly() -> Any:
        """Leads Dash, which loads Plotly for the first figure of a page, to the part of it that draws ours."""
        return flask.redirect(f"{source.base_path}/assets/{plotly_file().name}")

    @server.get("/budget")  # type: ignore[untyped-decorator]
    def former() -> Any:
        """Leads links from before the page was renamed to it."""
        query = flask.request.query_string.decode("ascii", "replace")
        return flask.redirect(f"{source.base_path}/tuning-curve?{query}", 308)

    @server.after_request  # type: ignore[untyped-decorator]
    def missing(answer: Any) -> Any:
        """Marks the shell as not found where there is no page; it then says so."""
        if flask.request.endpoint == CATCH_ALL and flask.request.path not in paths:
            answer.status_code = 404
        return answer

    @server.errorhandler(Exception)  # type: ignore[untyped-decorator]
    def failed(error: Exception) -> Any:
        code = 404 if isinstance(error, DependencyException) else getattr(error, "code", None)
        known = isinstance(code, int) and 400 <= code < 500
        if not known:
            logged("server", error)
        text = "This request cannot be answered." if known else "Internal error; see the server's log."
        text = "There is nothing at this address." if code == 404 else text
        return flask.Response(f"{text}\n", status=code if known else 500, mimetype="text/plain")


def _version(source: Snapshots, space: str) -> dict[str, Any]:
    """Returns the change token of a space, which moves with its drivers and damage too, and the spaces there are."""
    spaces = source.spaces()
    if space not in spaces:
        return {"version": "", "spaces": spaces}
    held = sorted(item for item in source.drivers().items() if item[0].startswith(f"{space}/"))
    try:
        snapshot = source.refreshed(space)
        token = repr((snapshot.version, snapshot.damage))
    except DamagedCells as error:
        token = error.message  # shown on the page; once it is repaired, the page is laid out again
    text = repr((token, held))
    return {"version": blake2b(text.encode(), digest_size=12).hexdigest(), "spaces": spaces}
