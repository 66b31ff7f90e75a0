"""One pair's outcome as a row of the page that opens to its sentence, its caveats, and what leads further."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from dashboards import style
from dashboards.figures.caveats import caveat, pair_flags
from dashboards.figures.pair_outcome import TONES, searched
from dashboards.figures.window import Ends, window
from dashboards.web import components
from dashboards.web.components import Content
from dashboards.web.page import View
from lawn_tune.comparison.comparison import CellResult, PairResult
from lawn_tune.comparison.estimates import Estimate
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.tables import n_text
from lawn_tune.comparison.verdicts import enough_digits, interval_text, level_text, sentence, verdict_text
from lawn_tune.words import difference_unit, fixed, method, metric_name, metric_of, signed


def verdicts(view: View, pairs: Sequence[PairResult]) -> Component:
    """Returns the outcomes of pairs, one row each: name, interval, verdict, unusual caveats; it opens to the rest."""
    axis = _axis(pairs)
    usual = set.intersection(*(set(pair_flags(pair)) for pair in pairs)) - OF_CLAIM if len(pairs) > 1 else set()
    rows = [_verdict(view, pair, axis, usual, alone=len(pairs) == 1) for pair in pairs]
    return html.Ol(rows, className="verdicts")


OF_CLAIM = {Flag.PARTIAL, Flag.ADDED}
"""Caveats that qualify a verdict itself: a row shows them even where all others have them."""


def _axis(pairs: Sequence[PairResult]) -> Ends:
    """Returns the ends of the axis that the intervals of all rows share."""
    differences = [pair.difference for pair in pairs if pair.difference]
    intervals = [found.interval for found in differences if found.interval]
    return window([(found.low, found.high) for found in intervals], [found.mean for found in differences], air=0.05)


def _verdict(view: View, pair: PairResult, axis: Ends, usual: set[Flag], *, alone: bool) -> Component:
    unusual = [caveat(flag, pair.challenger) for flag in pair_flags(pair) if flag not in usual]
    row = [
        html.Span(
            [
                html.Span(components.method_name(pair.challenger.cell.name.optimizer), className="rival"),
                html.Span(components.method_name(pair.baseline.cell.name.optimizer), className="rival"),
                html.Span(f"batch {pair.batch_size:,}", className="at"),
            ],
            className="rivals",
        ),
        _interval(pair, axis),
        _number(pair),
        html.Span([_badge(pair), html.Small(", ".join(unusual), className="unusual")], className="verdict-badge"),
    ]
    words = html.Div([html.P(text) for text in _words(pair)], className="verdict-words")
    inside = html.Div([words, _chips(pair), *_runs(view, pair), _links(view, pair)], className="opened")
    return html.Li(html.Details([html.Summary(row), inside], open=alone or None), className="verdict")


def _interval(pair: PairResult, axis: Ends) -> Component:
    """Returns the interval as a bar on the rows' axis, with a line at zero; an arrow is where it leaves the axis."""
    low, high = axis

    def share(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    found = pair.difference.interval if pair.difference else None
    marks = [html.Span(className="zero", style={"left": f"{share(0.0):.2f}%"})]
    if found is not None and pair.difference is not None:
        start, end, mean = share(found.low), share(found.high), pair.difference.mean
        marks.append(html.Span(className="range", style={"left": f"{start:.2f}%", "width": f"{end - start:.2f}%"}))
        marks += [html.Span(className="mean", style={"left": f"{share(mean):.2f}%"})] if low <= mean <= high else []
        marks += [html.Span(className="beyond left")] if found.low < low else []
        marks += [html.Span(className="beyond right")] if found.high > high else []
    return html.Span(marks, className=f"interval {TONES.get(pair.verdict, 'none')}", **components.aria(hidden="true"))


def _runs(view: View, pair: PairResult) -> list[Component]:
    """Returns a table of the confirm runs by seed, each with a link to its trial; nothing before both have any."""
    sides = [result.confirmed for result in (pair.challenger, pair.baseline)]
    found = [side for side in sides if side is not None]
    if len(found) < 2:
        return []
    digits = metric_of(pair.baseline.cell.protocol.metric).digits

    def value(side: Estimate, seed: int) -> Content:
        if seed not in side.values:
            return "–"
        return components.link(fixed(side.values[seed], digits), view.href("/trial", trial=side.keys[seed]))

    def difference(seed: int) -> str:
        both = [side.values[seed] for side in found if seed in side.values]
        return signed(both[0] - both[1], digits) if len(both) == 2 else "–"

    seeds = dict.fromkeys(seed for side in found for seed in side.values)
    added = {seed for result in pair.cells for seed in result.cell.added_seeds}
    names = {seed: f"{seed} (added later)" if seed in added else str(seed) for seed in seeds}
    rows = [(names[seed], *(value(side, seed) for side in found), difference(seed)) for seed in seeds]
    methods = (method(result.cell.name.optimizer) for result in (pair.challenger, pair.baseline))
    caption = f"Confirm runs, test {metric_name(pair.baseline.cell.protocol.metric)}"
    return [components.table(("Seed", *methods, "Difference"), rows, caption, numbers=(0, 1, 2, 3))]


def _links(view: View, pair: PairResult) -> Component:
    """Returns what leads to the grids and trials of both cells, and to their curves as means over seeds."""
    cells = [result.cell for result in (pair.challenger, pair.baseline)]
    names = [str(cell.name) for cell in cells]
    grids = [
        components.link(f"Grid and trials of {method(cell.name.optimizer)}", view.href("/cell", cell=str(cell.name)))
        for cell in cells
    ]
    filters = {"base": style.base_of(pair.challenger.cell.name.optimizer), "batch": str(pair.batch_size)}
    links = (
        components.link("Grids, curves and reliability", view.href("/compare", pair=names[0], **filters)),
        components.link("Training dynamics", view.href("/dynamics", trial=names)),
        *grids,
    )
    return html.P([part for link in links for part in (" · ", link)][1:], className="links")


def _badge(pair: PairResult) -> Component:
    return html.Span(verdict_text(pair), className=f"badge {TONES.get(pair.verdict, 'none')}")


def _number(pair: PairResult) -> Component:
    """Returns the difference in large digits with its interval; in weak ones where no fresh run supports it."""
    protocol = pair.baseline.cell.protocol
    digits, name = metric_of(protocol.metric).digits, metric_name(protocol.metric)
    unit = " " + " of ".join(filter(None, (difference_unit(protocol.metric), name)))
    if pair.difference is not None:
        ends = interval_text(pair.difference, digits)
        named = f"{level_text(pair.difference.family)}: {ends}" if pair.difference.interval else "no interval"
        mean = signed(pair.difference.mean, enough_digits(pair.difference, digits))
        return _big(mean, unit, f"{named}, n = {n_text(pair.difference)}")
    if (found := searched(pair)) is not None:
        return _big(signed(found, digits), unit, f"of searches on {protocol.selection}, unconfirmed", sure=False)
    return _big("–", "", "", sure=False)


def _big(number: str, unit: str, below: str, *, sure: bool = True) -> Component:
    shown = [html.Strong(number), html.Span(unit), html.Small(below)]
    return html.Span(shown, className="big" if sure else "big unsure")


def _words(pair: PairResult) -> list[str]:
    notes = [sentence(pair)]
    lawn, base = pair.challenger.winner, pair.baseline.winner
    if pair.difference is None and lawn and base:
        protocol = pair.baseline.cell.protocol
        digits = metric_of(protocol.metric).digits
        notes.append(
            f"So far, the best of each grid on {protocol.selection} {metric_name(protocol.metric)}: "
            f"{method(pair.challenger.cell.name.optimizer)} {fixed(lawn.value, digits)}, "
            f"{method(pair.baseline.cell.name.optimizer)} {fixed(base.value, digits)}. "
            "The best of many is biased upward."
        )
    return notes


def _chips(pair: PairResult) -> Component:
    """Returns the caveats, one chip per kind, which opens to show details per method."""
    found: dict[Flag, list[str]] = {}
    for who, notes in (
        ("", pair.notes),
        (_who(pair.baseline), pair.baseline.notes),
        (_who(pair.challenger), pair.challenger.notes),
    ):
        for note in notes:
            found.setdefault(note.flag, []).append(f"{who}{note.text}.")
    chips = [_chip(caveat(flag, pair.challenger), found[flag]) for flag in pair_flags(pair)]
    return html.Div(chips, className="chips", **components.aria(label="Caveats"))


def _who(result: CellResult) -> str:
    return f"{method(result.cell.name.optimizer)}: "


def _chip(name: str, texts: Sequence[str]) -> Component:
    return html.Details(
        [html.Summary(name), html.Ul([html.Li(text) for text in dict.fromkeys(texts)])],
        className="chip",
        title="\n".join(texts),
    )
