"""The application: the shell, and in it one page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import flask
from dash import ALL, Dash, Input, Output, State, dcc
from dash.exceptions import DependencyException, PreventUpdate

from dashboards import style
from dashboards.figures.base import plotly_file
from dashboards.web.cards import clientside, logged
from dashboards.web.early import early
from dashboards.web.page import HERE, PLACE, THEME, URL, VERSION, Page
from dashboards.web.pages import PAGES
from dashboards.web.shell import content_of, links, shell, spaces_of, title_of
from dashboards.web.snapshot import Snapshots
from lawn_tune.comparison.renderers.csv_field import FORMULA
from lawn_tune.errors import LawnTuneError
from lawn_tune.results import DamagedCells

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
<noscript>Figures, filters and large tables need JavaScript, which is switched off in this browser.</noscript>
<p class="unstyled">The files of this page were not found. Behind a proxy, a dashboard at a path other than / requires
<code>lawn-tune dashboard --base-path /PATH</code>; see docs/dashboard.md.</p>
<!--early-->
{%app_entry%}
<script type="application/json" id="lawn-looks">LOOKS</script>
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>"""
"""Every script is a file of ours but the last line, whose hash the policy names; JSON is data and runs nowhere. The
style sheet hides the paragraph, which is visible only where the browser looks for files in the wrong place."""

EARLY = "<!--early-->"
"""Its place for what `early` returns."""


class _Application(Dash):
    """Dash, whose first answer holds the page's texts already; `early` returns them for the request at hand."""

    early: Callable[[], str]

    def interpolate_index(self, *given: Any, **parts: Any) -> str:
        """See `Dash.interpolate_index`."""
        index: str = super().interpolate_index(*given, **parts)  # type: ignore[no-untyped-call]
        return index.replace(EARLY, self.early(), 1)


def create_app(source: Snapshots, pages: Sequence[Page] = PAGES) -> Dash:
    """Returns the application over a ledger. It is read-only: no route writes.

    Args:
        source: the ledger's snapshots; its `base_path` is where browsers find the application.
        pages: the pages.

    Returns:
        The application; `security.guarded(app, …)` is what may be served.
    """
    shown = tuple(sorted(pages, key=lambda page: page.order))
    app = _Application(
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
    app.layout = lambda: shell(source, shown)
    app.early = lambda: early(source, shown, flask.request.path, flask.request.args.to_dict(flat=False))
    _register_shell(app, source, shown)
    for page in shown:
        page.register(app, source)
    _register_routes(app.server, source, frozenset(page.path for page in shown))
    return app


def _looks(base: str) -> str:
    """Returns the base path, templates of figures and what a formula starts with, as JSON in which no tag can open."""
    return json.dumps({"base": base, "templates": style.templates(), "formula": FORMULA}).replace("<", "\\u003c")


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
        content = content_of(page, source, place)
        failed = getattr(content, "className", "") == "failure"
        laid_out = {**wanted, "filled": bool(spaces_of(source)), "failed": failed}
        nav = links(source.base_path, list(pages.values()), str(place.get("space") or ""), page)
        return [[dcc.Store(id=HERE, data=place), content], title_of(page), nav, laid_out]


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
