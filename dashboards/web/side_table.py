"""Tables of measured and published values side by side: of a space, and of each table that the paper prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dash import html
from dash.development.base_component import Component

from dashboards.web import components
from dashboards.web.components import Content
from dashboards.web.page import View
from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.comparison.published import paper_dataset, printed, source
from lawn_tune.comparison.tables import Footnote, Table, table, value_text
from lawn_tune.words import count, fixed, method
from search_spaces.published import PublishedTable, PublishedValue


class SideEntry(NamedTuple):
    """A measured value and the paper's, each ready to print or "".

    Args:
        measured: "66.91 ± 0.21 (3)", "66.9 (search, 2)", "diverged".
        best: it is the better confirmed mean of its pair.
        confirmed: fresh runs support it.
        marks: letters of its caveats.
        cell: name of its cell, "" without one.
        paper: "66.24" or "71.16 ± 0.05".
        bold: the paper prints it in bold.
    """

    measured: str
    best: bool
    confirmed: bool
    marks: tuple[str, ...]
    cell: str
    paper: str
    bold: bool


class SideTable(NamedTuple):
    """A table.

    Args:
        title: what it is of.
        groups: (heading, columns below it), in order; a heading may be "".
        columns: headings of the columns.
        rows: (method as printed, our name of it, an entry per column; None where the table has no such cell).
        facts: sentences below it.
        doubts: what the paper leaves open of its own values.
        footnotes: what the marks mean.
    """

    title: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[SideEntry | None, ...]], ...]
    facts: tuple[str, ...]
    doubts: tuple[str, ...]
    footnotes: tuple[Footnote, ...]


def space_table(comparison: Comparison) -> SideTable:
    """Returns a comparison's table, the paper's values next to ours where it has them."""
    known, sizes = table(comparison), comparison.batch_sizes
    entries = {(r.cell.name.optimizer, r.cell.name.batch_size): _entry(r, known) for r in comparison.cells}
    theirs = []
    if any(entry.paper for entry in entries.values()):
        theirs.append(f"“paper” is printed there, not measured here ({source(r.cell for r in comparison.cells)}).")
    return SideTable(
        title=known.title,
        groups=(("batch size", len(sizes)),),
        columns=tuple(f"{size:,}" for size in sizes),
        rows=tuple(
            (method(name), name, tuple(entries.get((name, size)) for size in sizes)) for name in comparison.optimizers
        ),
        facts=(known.caption, *(reference.text for reference in comparison.references), *theirs),
        doubts=(),
        footnotes=known.footnotes,
    )


def _entry(result: CellResult, known: Table) -> SideEntry:
    name, value = result.cell.name, printed(result.cell)
    entry = known.entries[name.optimizer, name.batch_size]
    return SideEntry(
        measured=entry.text,
        best=entry.best,
        confirmed=entry.confirmed,
        marks=entry.marks,
        cell=str(result.cell.name),
        paper=_printed(value) if value else "",
        bold=False,  # in this table, bold is a decided difference of ours
    )


def _printed(value: PublishedValue) -> str:
    return value.text if value.error is None else f"{value.text} ± {fixed(value.error, 2)}"


def paper_table(printed_table: PublishedTable, results: Sequence[CellResult]) -> SideTable:
    """Returns a table of the paper, ours next to each value that a cell of ours has measured on the same task.

    Args:
        printed_table: as the paper has it.
        results: cells of any spaces; of those that fit a value one with the paper's epochs is taken, else the first.
    """
    ours = _by_place(results)
    columns = list(dict.fromkeys((v.dataset, v.batch, v.loss) for v in printed_table.values))
    order = list(dict.fromkeys(dataset for dataset, _, _ in columns))
    columns.sort(key=lambda column: order.index(column[0]))
    placed = {(v.label, (v.dataset, v.batch, v.loss)): _paper_entry(v, ours) for v in printed_table.values}
    labels = dict.fromkeys((v.label, v.method) for v in printed_table.values)
    losses = any(loss.startswith("focal") for _, _, loss in columns)
    datasets = [dataset for dataset, _, _ in columns]
    return SideTable(
        title=f"Table {printed_table.number}: {printed_table.title}",
        groups=tuple((name, datasets.count(name)) for name in dict.fromkeys(datasets)),
        columns=tuple(_heading(batch, loss, losses) for _, batch, loss in columns),
        rows=tuple((label, name, tuple(placed.get((label, column)) for column in columns)) for label, name in labels),
        facts=(*_protocol(printed_table), *printed_table.facts),
        doubts=printed_table.doubts,
        footnotes=(),
    )


Place = tuple[str, str, str, str, int | None]
"""Dataset, metric, loss, method and batch size, by our names."""


def _by_place(results: Sequence[CellResult]) -> Mapping[Place, Sequence[CellResult]]:
    found: dict[Place, list[CellResult]] = {}
    for result in results:
        cell, task = result.cell, result.cell.task
        place = (paper_dataset(task), cell.protocol.metric, task.loss, task.optimizer, task.batch_size)
        if cell.control is cell.method.control:  # a grid without decay is not what the paper prints as Adam
            found.setdefault(place, []).append(result)
    return found


def _paper_entry(value: PublishedValue, ours: Mapping[Place, Sequence[CellResult]]) -> SideEntry:
    fitting = ours.get((value.dataset, value.metric, value.loss, value.method, value.batch_size), ())
    result = max(fitting, key=lambda each: each.cell.task.epochs == value.epochs, default=None)
    return SideEntry(
        measured=value_text(result) if result and result.estimate else "",
        best=False,
        confirmed=result is not None and result.confirmed is not None,
        marks=(),
        cell=str(result.cell.name) if result else "",
        paper=_printed(value),
        bold=value.bold,
    )


def _heading(batch: str, loss: str, losses: bool) -> str:
    size = "batch size not given" if batch == "?" else batch
    if not losses:
        return size
    return f"{size}, γ = {loss.partition('-')[2]}" if loss.startswith("focal") else f"{size}, CE"


def _protocol(found: PublishedTable) -> list[str]:
    models = dict.fromkeys(v.model for v in found.values)
    epochs = sorted({v.epochs for v in found.values})
    errors = f" Standard errors lie between {found.errors[0]:g} and {found.errors[1]:g}." if found.errors else ""
    bold = f" Bold: {found.bold}." if found.bold else ""
    protocol = (
        f"Means of {found.runs} runs of {' and '.join(models)}, {' or '.join(map(str, epochs))} epochs.{errors}{bold}"
    )
    return [protocol]


# --- drawing ----------------------------------------------------------------------------------------------------------


def side_table(view: View, table: SideTable, *, ours: bool) -> list[Component]:
    """Returns the table and the notes below it; `ours` puts the measured values first."""
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
