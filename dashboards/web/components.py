"""Pieces of pages: controls, tiles, small tables, names of methods, and messages in place of content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from dashboards import style
from dashboards.web.page import Empty, View
from lawn_tune.words import method

Content = Component | str | None
Option = str | tuple[str, str]
"""A control's value, or (value, label)."""


def aria(**values: str) -> dict[str, Any]:
    """Returns attributes for assistive software: aria(label="Spaces") is aria-label."""
    return {f"aria-{name}": value for name, value in values.items()}


def data(**values: str) -> dict[str, Any]:
    """Returns attributes that the scripts of `assets` read: data(copy="text") is data-copy."""
    return {f"data-{name}": value for name, value in values.items()}


def choice(
    view: View, name: str, label: str, options: Sequence[Option], default: str = "", *, multiple: bool = False
) -> Component:
    """Returns a labeled control that writes the filter `name` into the URL.

    Args:
        name: of the filter, `[a-z_]+`.
        label: what it chooses, above it.
        options: what can be chosen; other values in the URL are ignored.
        default: the value that means nothing chosen; one of the options, or "" with `multiple`, where nothing
            chosen means everything.
        multiple: several may be chosen. Otherwise up to four options are shown at once, more are a list to search.
    """
    listed = [{"value": o, "label": o} if isinstance(o, str) else {"value": o[0], "label": o[1]} for o in options]
    allowed = [option["value"] for option in listed]
    id_ = {"kind": "filter", "name": name, "default": default}
    if multiple:
        chosen = [value for value in view.filters[name] if value in allowed]
        several: Component = dmc.MultiSelect(
            id=id_, label=label, data=listed, value=chosen, placeholder="" if chosen else "all", clearable=True,
            searchable=True, className="control wide", size="xs", hidePickedOptions=True,
        )  # fmt: skip
        return several
    value = view.filters.one(name, default)
    value = value if value in allowed else default
    if len(listed) <= 4:
        return html.Div(
            [
                html.Span(label, id=f"label-{name}", className="control-label"),
                dmc.SegmentedControl(id=id_, data=listed, value=value, size="xs", **aria(label=label)),
            ],
            className="control",
        )
    one: Component = dmc.Select(
        id=id_, label=label, data=listed, value=value, searchable=True, allowDeselect=False, className="control wide",
        size="xs",
    )  # fmt: skip
    return one


def controls(*found: Component) -> Component:
    """Returns the controls of a page in one row, a landmark of its own."""
    return html.Div(list(found), className="controls", role="search", **aria(label="Filters"))


def tile(label: str, value: str, hint: str = "", tone: str = "") -> Component:
    """Returns one number with its name; `tone` is "", "good", "warn" or "bad"."""
    shown: list[Component] = [html.Dt(label), html.Dd(value, className=f"tile-value {tone}".strip())]
    return html.Div([*shown, html.Dd(hint, className="tile-hint")] if hint else shown, className="tile")


def tiles(*found: Component) -> Component:
    """Returns tiles in one row, as a list of terms and values."""
    return html.Dl(list(found), className="tiles")


def method_name(optimizer: str) -> Component:
    """Returns a method's name with its line: one color per pair, solid for a challenger, dashed for its base."""
    return html.Span([line(optimizer, style.color(optimizer)), method(optimizer)], className="method")


def line(optimizer: str, color: str) -> Component:
    """Returns a short piece of the line that figures draw for a method."""
    return html.Span(className="line", style={"borderTop": f"2px {style.border(optimizer)} {color}"})


def legend(optimizers: Sequence[str]) -> Component:
    """Returns the one legend of a page whose figures share their methods."""
    return html.Ul([html.Li(method_name(name)) for name in optimizers], className="legend", **aria(label="Methods"))


def table(
    header: Sequence[str], rows: Sequence[Sequence[Content]], caption: str, *, numbers: Sequence[int] = ()
) -> Component:
    """Returns a small table that a screen reader can read; large ones are `table_card.TableCard`.

    Args:
        caption: what it shows; read, not seen.
        numbers: columns to align right.
    """

    def cell(tag: Any, i: int, content: Content) -> Any:
        scope = {"scope": "col"} if tag is html.Th else {}
        return tag(content, className="number" if i in numbers else None, **scope)

    head = html.Thead(html.Tr([cell(html.Th, i, name) for i, name in enumerate(header)]))
    body = html.Tbody([html.Tr([cell(html.Td, i, content) for i, content in enumerate(row)]) for row in rows])
    seen = html.Table([html.Caption(caption, className="unseen"), head, body])
    return html.Div(seen, className="table", tabIndex=0, role="region", **aria(label=caption))


def command(text: str) -> Component:
    """Returns a command to copy."""
    copy = html.Button("Copy", type="button", className="quiet", **data(copy=text), **aria(label=f"Copy {text}"))
    return html.Div([html.Code(text), copy], className="command")


def snippet(text: str) -> Component:
    """Returns lines of a file to copy."""
    copy = html.Button("Copy", type="button", className="quiet", **data(copy=text), **aria(label="Copy the lines"))
    return html.Div([html.Pre(text), copy], className="snippet")


def link(text: str, to: str, class_name: str = "") -> Component:
    """Returns a link to a page of the application, made by `View.href`; the page changes without a reload."""
    return html.A(text, href=to, className=class_name or None, **data(nav=to))


def progress(label: str, done: float, running: float = 0.0, bad: float = 0.0) -> Component:
    """Returns a bar of shares from 0 to 1: done, of it diverged or failed, and running; `label` is its text."""
    parts = (("done", done - bad), ("bad", bad), ("running", running))
    bars = [
        html.Span(className=f"bar-{name}", style={"width": f"{100 * share:.2f}%"}) for name, share in parts if share
    ]
    return html.Div(bars, className="bar", role="img", **aria(label=label))


def empty(why: Empty) -> Component:
    """Returns the message where there is nothing to show."""
    children: list[Component] = [html.P(why.reason, className="empty-reason")]
    children += [html.P(why.todo)] if why.todo else []
    children += [command(why.command)] if why.command else []
    return html.Div(children, className="empty")


def failure(message: str, hint: str = "") -> Component:
    """Returns the message where a card failed."""
    notice = html.P([html.Strong("This cannot be shown. "), message])
    return html.Div([notice, *([html.P(hint)] if hint else [])], className="failure", role="alert")
