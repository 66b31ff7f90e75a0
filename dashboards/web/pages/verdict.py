"""The landing page: does LAWN beat weight decay, by how much, how sure is it, and what would decide the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dash import html
from dash.development.base_component import Component

from dashboards.figures.base import plain
from dashboards.figures.forest import FOREST_HELP, forest_figure, forest_info, forest_summary
from dashboards.figures.pair_outcome import TONES
from dashboards.report.protocol import dates, protocol
from dashboards.web import components
from dashboards.web.cards import Block, Drawing, FigureCard, page
from dashboards.web.comparison_part import MAX_SPACES
from dashboards.web.components import Content
from dashboards.web.filters import href
from dashboards.web.page import Empty, View
from dashboards.web.pages.comparison import nothing
from dashboards.web.pages.progress import bar, progress_of, state_text
from dashboards.widening import shortest_budget, suggested
from lawn_tune.comparison.comparison import CellResult, Comparison, PairResult, Verdict
from lawn_tune.comparison.next_steps import launch_command, next_steps
from lawn_tune.comparison.tables import model_text
from lawn_tune.comparison.verdicts import BY_ITSELF, enough_digits, headline, interval_text, overall_sentences
from lawn_tune.results import DamagedCells
from lawn_tune.words import count, method, metric_name, metric_of, signed

MAX_STEPS = 8
"""Steps listed; more are the same for further pairs."""


# --- the answer -------------------------------------------------------------------------------------------------------


def answer(view: View) -> list[Component]:
    """Returns what is compared, the statement over all cells, and how far the study is."""
    comparison = view.snapshot.comparison
    return [
        html.P(question(comparison), className="question"),
        *_statement(view, comparison),
        _strip(view),
    ]


def question(comparison: Comparison) -> str:
    """Returns dataset, model, epochs, batch sizes, metric and n of a comparison in one line."""
    sizes = [f"{size:,}" for size in comparison.batch_sizes]
    seeds = sorted({pair.difference.n for pair in comparison.pairs if pair.difference})
    measured = "–".join(dict.fromkeys(map(str, seeds[:1] + seeds[-1:])))
    epochs = " or ".join(comparison.distinct(lambda cell: f"{cell.task.epochs:,}"))
    parts = (
        " or ".join(comparison.distinct(lambda cell: cell.task.dataset)),
        " or ".join(comparison.distinct(model_text)),
        f"{epochs} epoch{'' if epochs == '1' else 's'}",
        f"batch {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"batch {sizes[0]}",
        f"test {' or '.join(comparison.distinct(lambda cell: metric_name(cell.protocol.metric)))}",
        f"{measured} fresh seed{'' if measured == '1' else 's'}" if seeds else "no fresh seed yet",
    )
    return " · ".join(parts)


def _statement(view: View, comparison: Comparison) -> list[Component]:
    why = nothing(view, comparison)
    if why is not None:
        return [components.empty(why)]
    overall = comparison.overall
    first, *rest = overall_sentences(overall) if overall else [headline(comparison)]
    return [html.P(first, className="statement"), *([html.P(" ".join(rest), className="rest")] if rest else [])]


def _strip(view: View) -> Component:
    """Returns how far the space is, in one line that leads to all of it."""
    found = progress_of(view)
    lost = f", {found.failed:,} failed" if found.failed else ""
    text = f"{found.done:,} of {count(found.planned, 'trial')}, {state_text(found)}{lost}"
    return html.Div([bar(found), components.link(text, view.href("/progress"))], className="strip")


# --- forest -----------------------------------------------------------------------------------------------------------


def forest(view: View) -> Drawing | Empty:
    """Draws the paired differences of every pair, in rows low enough for the first screen."""
    comparison = view.snapshot.comparison
    info = forest_info(comparison.pairs)
    if not info.rows or comparison.empty:
        return nothing(view, comparison) or Empty("There is no pair to compare.")
    return Drawing(plain(forest_figure(info, dense=True)), f"{forest_summary(info)} {FOREST_HELP}")


# --- what would decide ------------------------------------------------------------------------------------------------


class Todo(NamedTuple):
    """Something to do: for which pairs, what and why, and the command, without this ledger's address."""

    what: str
    text: str
    command: str


def todos(comparison: Comparison) -> list[Todo]:
    """Returns what would decide the pairs; a step of several pairs is there once."""
    steps = [(pair, step) for pair in comparison.pairs for step in next_steps(pair)]
    found = []
    if open_pairs := [pair for pair, step in steps if step.action == "continue"]:
        missing = sum(result.missing for result in _cells(open_pairs))
        text = f"{count(missing, 'trial')} of {count(len(open_pairs), 'pair')} have no result yet."
        command = launch_command([result.cell for result in _cells(open_pairs)])
        found.append(Todo("Continue the launch", text, command))
    names = {"widen": "Widen a grid", "seeds": "Add seeds", "none": "Seeds alone would not decide"}
    for pair, step in steps:
        if step.action != "continue":
            found.append(Todo(f"{names[step.action]}: {_named(pair)}", step.text, step.command))
    return list({(todo.text, todo.command): todo for todo in found}.values())


def _cells(pairs: Iterable[PairResult]) -> Iterable[CellResult]:
    return {str(r.cell.name): r for pair in pairs for r in (pair.baseline, pair.challenger)}.values()


def _named(pair: PairResult) -> str:
    challenger, baseline = (method(result.cell.name.optimizer) for result in (pair.challenger, pair.baseline))
    return f"{challenger} against {baseline}, batch {pair.batch_size:,}"


def decide(view: View) -> list[Component] | Empty:
    """Returns what would decide the pairs that are open: each step with its command, and the lines that widen."""
    comparison = view.snapshot.comparison
    if not comparison.pairs:
        return Empty("There is no pair to decide.")
    found = todos(comparison)
    if not found:
        if all(pair.verdict in TONES and pair.verdict is not Verdict.UNDECIDED for pair in comparison.pairs):
            return Empty("Every pair is decided, and every trial has a result.")
        return Empty("Every trial has a result, and no launch would decide the pairs that are open.")
    shown = found[:MAX_STEPS]
    more = [html.P(f"and {count(len(found) - len(shown), 'step')} more.", className="help")] if shown != found else []
    terms = [html.Div([html.Dt(todo.what), html.Dd([html.P(todo.text), *_command(view, todo)])]) for todo in shown]
    return [html.Dl(terms, className="steps"), *more, *_lines(comparison, found)]


def _command(view: View, todo: Todo) -> list[Component]:
    return [components.command(view.command(todo.command.removeprefix("lawn-tune ")))] if todo.command else []


def _lines(comparison: Comparison, found: list[Todo]) -> list[Component]:
    text = suggested(comparison.cells, shortest_budget(comparison))
    if not text or not any(todo.what.startswith("Widen") for todo in found):
        return []
    words = "These lines replace those of the space's file and extend every grid whose winner is on its edge; a launch "
    return [html.P(f"{words}trains only the new points.", className="help"), components.snippet(text)]


# --- several spaces, details ------------------------------------------------------------------------------------------


def spaces(view: View) -> list[Component] | Empty:
    """Returns one line per space of the ledger, with its verdict; of more than `MAX_SPACES`, only the names."""
    if len(view.spaces) == 1:
        return Empty("This ledger holds one space.")
    if len(view.spaces) > MAX_SPACES:
        return [components.table(("Space",), [[_space_link(view, name)] for name in view.spaces], "Spaces")]
    header = ("Space", "Verdict on the mean", "Mean effect (its interval)", "Compares", "Trials")
    lines = [_space_row(view, name) for name in view.spaces]
    return [
        components.table(header, lines, "Spaces of this ledger", numbers=(2, 4)),
        html.P(f"{BY_ITSELF} Those of single pairs, as in the forest, hold together.", className="help"),
    ]


def _space_row(view: View, name: str) -> list[Content]:
    try:
        there = view.at(name)
        comparison, found = there.snapshot.comparison, progress_of(there)
    except DamagedCells as error:
        return [_space_link(view, name), html.Span(error.message, className="bad"), "–", "–", "–"]
    verdict = comparison.overall.verdict.value if comparison.overall else "no pair"
    return [
        _space_link(view, name),
        verdict,
        effect(comparison),
        html.Div([*map(html.Div, comparison.about[:1]), html.Div(question(comparison), className="faint")]),
        f"{found.done:,} of {found.planned:,}",
    ]


def effect(comparison: Comparison) -> str:
    """Returns the mean difference over all cells with its interval: "+0.52 (0.11 to 0.93)"; "–" without one."""
    overall = comparison.overall
    if overall is None or overall.difference is None:
        return "–"
    digits = metric_of(comparison.cells[0].cell.protocol.metric).digits
    mean = signed(overall.difference.mean, enough_digits(overall.difference, digits))
    return f"{mean} ({interval_text(overall.difference, digits)})"


def _space_link(view: View, name: str) -> Content:
    to = view.source.base_path + href("/", name)
    return html.Strong(name) if name == view.space else components.link(name, to)


def details(view: View) -> list[Component]:
    """Returns what the space's file says of it, and the protocol: seeds, versions, hosts and dates."""
    rows = protocol(view.snapshot.comparison, dates(view.snapshot.trials))
    about = [html.P(text) for text in view.snapshot.comparison.about]
    terms = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in rows]
    inside = [*about, html.Dl(terms, className="facts")]
    return [html.Details([html.Summary("Protocol, seeds, versions and hosts"), *inside])]


PAGE = page(
    path="/",
    title="Verdict",
    order=10,
    cards=(
        Block(name="verdict-answer", title="Does LAWN beat weight decay?", render=answer, early=True),
        FigureCard(name="verdict-forest", title="Paired differences", draw=forest, height=150),
        Block(name="verdict-spaces", title="Spaces", render=spaces, wide=True, brief=True, early=True),
        Block(name="verdict-decide", title="What would decide", render=decide, wide=True, early=True),
        Block(name="verdict-details", title="How it was measured", render=details, wide=True, early=True),
    ),
)
