"""One pair's outcome as a line of the page: number, verdict, sentence, and its caveats as chips that open."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from dashboards.figures.caveats import caveat, pair_flags
from dashboards.figures.pair_outcome import TONES, paper_difference, searched
from dashboards.web import components
from lawn_tune.comparison.compare import CellResult, PairResult
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.verdicts import level_text, sentence, verdict_text
from lawn_tune.words import fixed, method, metric_name, metric_of, signed


def verdicts(pairs: Sequence[PairResult]) -> Component:
    """Returns the outcomes of pairs, one per line."""
    return html.Ol([_verdict(pair) for pair in pairs], className="verdicts")


def _verdict(pair: PairResult) -> Component:
    return html.Li(
        [
            html.Div(
                [
                    html.Div(components.method_name(pair.challenger.cell.name.optimizer), className="rival"),
                    html.Div(components.method_name(pair.baseline.cell.name.optimizer), className="rival"),
                    html.Div(f"batch {pair.batch_size:,}", className="at"),
                ],
                className="rivals",
            ),
            html.Div([_number(pair), _badge(pair)], className="verdict-number"),
            html.Div([html.P(text) for text in _words(pair)] + [_chips(pair)], className="verdict-words"),
        ],
        className="verdict",
    )


def _badge(pair: PairResult) -> Component:
    return html.Span(verdict_text(pair), className=f"badge {TONES.get(pair.verdict, 'none')}")


def _number(pair: PairResult) -> Component:
    """Returns the difference in large digits with its interval; in weak ones where no fresh run supports it."""
    protocol = pair.baseline.cell.protocol
    digits, name = metric_of(protocol.metric).digits, metric_name(protocol.metric)
    unit = f" points of {name}"
    if pair.difference is not None:
        interval = pair.difference.interval
        ends = f"{signed(interval.low, digits)} to {signed(interval.high, digits)}" if interval else "no interval"
        named = f"{level_text(pair.difference.family)}: {ends}" if interval else ends
        return _big(signed(pair.difference.mean, digits), unit, named)
    if (found := searched(pair)) is not None:
        return _big(signed(found, digits), unit, f"of searches on {protocol.selection}, unconfirmed", sure=False)
    return _big("–", "", "", sure=False)


def _big(number: str, unit: str, below: str, *, sure: bool = True) -> Component:
    shown = [html.Strong(number), html.Span(unit), html.Small(below)]
    return html.Div(shown, className="big" if sure else "big unsure")


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
    if (paper := paper_difference(pair)) is not None:
        notes.append(f"The paper prints {signed(paper, 2)} points for this pair, under its own setup.")
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
