"""A table of measured and published values, side by side, with what its marks and the paper's doubts mean."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from dashboards.web import components
from dashboards.web.components import Content
from dashboards.web.page import View
from dashboards.web.side_by_side import SideEntry, SideTable
from lawn_tune.words import count


def side_table(view: View, table: SideTable, *, ours: bool) -> list[Component]:
    """Returns the table and all that stands below it; `ours` puts the measured values first."""
    top = [html.Td(), *(html.Th(name, colSpan=n, scope="colgroup") for name, n in table.groups)]
    head = [html.Th("Method", scope="col"), *(html.Th(name, scope="col", className="number") for name in table.columns)]
    body = [
        html.Tr(
            [
                html.Th(label if not ours else components.method_name(name), scope="row"),
                *(html.Td(_side_entry(view, entry, ours), className="number") for entry in entries),
            ]
        )
        for label, name, entries in table.rows
    ]
    seen = html.Table([html.Caption(table.title), html.Thead([html.Tr(top), html.Tr(head)]), html.Tbody(body)])
    return [
        html.Div(
            seen,
            className="table sides" if ours else "table sides theirs",
            tabIndex=0,
            role="region",
            **components.aria(label=table.title),
        ),
        *(html.P(fact, className="help") for fact in table.facts),
        *_listed("Doubtful", table.doubts),
        *_footnotes(table),
    ]


def _side_entry(view: View, entry: SideEntry | None, ours: bool) -> list[Component]:
    if entry is None:
        return [html.Span("", className="faint")]
    measured = _measured(view, entry)
    paper = [html.Div(_bold(entry.paper, entry.bold), className="paper")] if entry.paper else []
    return [measured, *paper] if ours else [*paper, *([measured] if entry.measured else [])]


def _measured(view: View, entry: SideEntry) -> Component:
    shown: list[Content] = [_bold(entry.measured, entry.best)]
    if entry.cell:
        space = entry.cell.partition("/")[0]
        there = view if space == view.space else view.at(space)
        shown = [html.A(shown, href=there.href("/cell", cell=entry.cell), **components.data(nav=entry.cell))]
    marks = [html.Sup(",".join(entry.marks))] if entry.marks else []
    return html.Div([*shown, *marks], className="ours" if entry.confirmed else "ours unsure")


def _bold(shown: str, bold: bool) -> Content:
    return html.Strong(shown) if bold else shown


def _listed(title: str, texts: Sequence[str]) -> list[Component]:
    if not texts:
        return []
    return [html.P(f"{title}:", className="help"), html.Ul([html.Li(text) for text in texts], className="footnotes")]


def _footnotes(table: SideTable) -> list[Component]:
    terms = [
        [
            html.Dt(html.Sup(note.mark)),
            html.Dd([html.Strong(note.flag.value), *(html.Div(text) for text in note.texts)]),
        ]
        for note in table.footnotes
    ]
    notes = html.Dl([part for term in terms for part in term], className="footnotes")
    return [html.Details([html.Summary(f"{count(len(terms), 'caveat')} of this table"), notes])] if terms else []
