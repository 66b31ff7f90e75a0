"""Paired differences of challengers with their intervals, as a forest plot: filled where zero is excluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, cut, with_unit, wrapped
from dashboards.figures.pair_outcome import TONES, Tone, searched
from dashboards.figures.window import Ends, window
from lawn_tune.comparison.comparison import PairResult, Verdict
from lawn_tune.comparison.published import printed_difference
from lawn_tune.comparison.verdicts import sentence, side, sides, verdict_text
from lawn_tune.words import count, difference_unit, method, metric_name, metric_of, signed


class ForestRow(NamedTuple):
    """One pair.

    Args:
        space, base, lawn, batch_size: which one.
        mean: challenger − baseline in the metric's unit: paired over fresh seeds, else of the searches' best values,
            else None.
        low, high: of the interval; None where there is none.
        confirmed: the mean is over fresh seeds.
        verdict, tone: the outcome.
        sentence: the pair's outcome in words.
        short: the verdict for an axis.
        paper: the paper's difference on test; None where it prints none, or where ours is not on test.
    """

    space: str
    base: str
    lawn: str
    batch_size: int
    mean: float | None
    low: float | None
    high: float | None
    confirmed: bool
    verdict: Verdict
    tone: Tone
    sentence: str
    short: str
    paper: float | None


class ForestInfo(NamedTuple):
    """Pairs by space, base optimizer and batch size; `maximize` is False where lower is better.

    Args:
        unit: of the differences, "points" of percentages.
        challenger, baseline: what the two sides of all pairs are called.
    """

    unit: str
    metric: str
    challenger: str
    baseline: str
    digits: int
    maximize: bool
    rows: tuple[ForestRow, ...]

    @property
    def several(self) -> bool:
        """True where the pairs are of more than one space."""
        return len({row.space for row in self.rows}) > 1


def forest_info(pairs: Sequence[PairResult]) -> ForestInfo:
    """Returns the differences of pairs, in the order of space, base optimizer and batch size.

    Pairs whose metric has another direction or unit than the first one's are left out: their axis would be another.
    """
    first = pairs[0].baseline.cell.protocol if pairs else None
    same = [pair for pair in pairs if _axis(pair) == _axis(pairs[0])]
    challenger, baseline = sides(same)
    names = dict.fromkeys(metric_name(pair.baseline.cell.protocol.metric) for pair in same)
    return ForestInfo(
        unit=difference_unit(first.metric) if first else "",
        metric=" or ".join(names),
        challenger=challenger,
        baseline=baseline,
        digits=metric_of(first.metric).digits if first else 2,
        maximize=first is None or first.direction == "maximize",
        rows=tuple(map(_row, sorted(same, key=_order(same)))),
    )


def _axis(pair: PairResult) -> tuple[str, str]:
    protocol = pair.baseline.cell.protocol
    return protocol.direction, difference_unit(protocol.metric)


def _order(pairs: Sequence[PairResult]) -> Callable[[PairResult], tuple[int, int, int]]:
    spaces = list(dict.fromkeys(pair.baseline.cell.name.space for pair in pairs))
    bases = list(dict.fromkeys(pair.baseline.cell.name.optimizer for pair in pairs))

    def place(pair: PairResult) -> tuple[int, int, int]:
        name = pair.baseline.cell.name
        return spaces.index(name.space), bases.index(name.optimizer), name.batch_size

    return place


def _row(pair: PairResult) -> ForestRow:
    name, difference, found = pair.baseline.cell.name, pair.difference, searched(pair)
    alike = difference is not None or found is None or pair.baseline.cell.protocol.selection == "test"
    interval = difference.interval if difference else None
    return ForestRow(
        space=name.space,
        base=name.optimizer,
        lawn=pair.challenger.cell.name.optimizer,
        batch_size=name.batch_size,
        mean=difference.mean if difference else found,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confirmed=difference is not None,
        verdict=pair.verdict,
        tone=TONES.get(pair.verdict, "none"),
        sentence=sentence(pair),
        short=_short(pair),
        paper=printed_difference(pair.baseline.cell, pair.challenger.cell) if alike else None,
    )


def _short(pair: PairResult) -> str:
    """Returns the verdict, where it is too long for an axis in fewer words."""
    words = {
        Verdict.NEVER_CONSTRAINED: "never constrained",
        Verdict.ONLY_CHALLENGER: f"{side(pair.baseline.cell)} diverged",
        Verdict.ONLY_BASELINE: f"{side(pair.challenger.cell)} diverged",
        Verdict.LOST: "runs diverged",
        Verdict.PENDING: "not confirmed",
    }
    return words.get(pair.verdict, verdict_text(pair))


def forest_summary(info: ForestInfo) -> str:
    """Returns in a sentence or two what a forest shows."""
    tones = Counter(row.tone for row in info.rows)
    single = len(info.rows) == 1
    words: Mapping[Tone, str] = {
        "better": f"{info.challenger} is better",
        "worse": f"{info.baseline} is better",
        "open": "neither is shown to be better",
        "none": "there is no verdict",
    }
    parts = [text if single else f"{text} in {tones[tone]}" for tone, text in words.items() if tones[tone]]
    measured = sorted(row.mean for row in info.rows if row.mean is not None and row.confirmed)
    ends = " to ".join(dict.fromkeys(signed(mean, info.digits) for mean in (*measured[:1], *measured[-1:])))
    what = f"{'Mean' if len(measured) == 1 else 'Means'} of {info.challenger} − {info.baseline}"
    span = f" {what}: {f'{ends} {info.unit}'.strip()}." if measured else ""
    over = "One pair" if single else f"Of {count(len(info.rows), 'pair')}"
    return f"{over}: {'; '.join(parts)}.{span}{beyond_text(info)}"


# --- drawing ----------------------------------------------------------------------------------------------------------


FOREST_HELP = (
    "Challenger − baseline with its interval; those of one space hold together with 95 % confidence. Filled: zero is "
    "excluded. Gray, open: undecided or equivalent. Open diamond: search values only. Faint diamond: the paper. "
    "Arrow: the interval goes on beyond the axis."
)
"""How to read it."""

_ROW, _DENSE, _LOW, _MANY = 50, 36, 32, 8
"""Pixels a row, one where there are many, and one of a dense figure."""

_LONG = 24
"""Letters of a line of a label that leave room for the intervals on a phone."""


def forest_figure(info: ForestInfo, *, dense: bool = False) -> go.Figure:
    """Draws the difference of each pair with its interval, and the paper's difference as a faint diamond.

    Args:
        info: what is drawn.
        dense: in low rows however few there are, for the first screen of a phone.
    """
    row = _LOW if dense else _ROW if len(info.rows) <= _MANY else _DENSE
    (labels, long), ends = _labels(info), _ends(info.rows)
    row = max(row, 20 + 16 * max((label.count("<br>") for label in labels), default=0))
    figure = blank(height=84 + row * max(2, len(info.rows)), legend=False)
    figure.add_traces([_paper(info), *(_measured(info, places) for places in _alike(info)), *_arrows(info, ends)])
    figure.update_layout(
        margin={"t": 24, "b": 52}, annotations=[*_unmeasured(info), *_far(info, ends), *_sides(info, aside=long)]
    )
    figure.add_vline(x=0, line={"width": 1.5, "color": style.ZERO})
    for i, (above, below) in enumerate(pairwise(info.rows), start=1):
        if (above.space, above.base) != (below.space, below.base):
            figure.add_hline(y=i - 0.5, line={"width": 1, "color": style.ZERO, "dash": "dot"}, opacity=0.5)
    figure.update_xaxes(title_text=with_unit("Difference", info.unit), range=list(ends))
    figure.update_yaxes(
        automargin=True, type="linear",
        range=[max(len(info.rows), 2) - 0.5, -0.5], showgrid=False, zeroline=False, ticks="",
        tickvals=list(range(len(info.rows))), ticktext=labels,
    )  # fmt: skip
    return figure


def _alike(info: ForestInfo) -> list[list[int]]:
    """Returns the places of the pairs that have a mean, grouped by how they look: a trace has one look."""
    found: dict[_Look, list[int]] = {}
    for i, row in enumerate(info.rows):
        if row.mean is not None:
            found.setdefault(_look(row), []).append(i)
    return list(found.values())


class _Look(NamedTuple):
    color: str
    symbol: str
    thickness: int
    interval: bool


def _look(row: ForestRow) -> _Look:
    """Returns how a pair looks: filled in its color where the difference is separable from zero."""
    interval = row.low is not None and row.high is not None
    if row.tone in ("better", "worse"):
        return _Look(style.color(row.lawn), "circle", 3, interval)
    return _Look(style.ZERO, "circle-open" if row.confirmed else "diamond-open", 1, interval)


def _measured(info: ForestInfo, places: Sequence[int]) -> go.Scatter:
    """Returns the pairs at `places`, which look alike, as one trace."""
    rows, look = [info.rows[i] for i in places], _look(info.rows[places[0]])
    means = [row.mean or 0.0 for row in rows]
    trace = go.Scatter(
        x=means,
        y=list(places),
        mode="markers",
        marker={"size": 11, "color": look.color, "symbol": look.symbol, "line": {"width": 2, "color": look.color}},
        hovertext=[hover(row, info.digits) for row in rows],
        hoverinfo="text",
    )
    if look.interval:
        trace.error_x = {
            "array": [(row.high or 0.0) - mean for row, mean in zip(rows, means, strict=True)],
            "arrayminus": [mean - (row.low or 0.0) for row, mean in zip(rows, means, strict=True)],
            "color": look.color, "width": 6, "thickness": look.thickness,
        }  # fmt: skip
    return trace


def _arrows(info: ForestInfo, ends: Ends) -> list[go.Scatter]:
    """Returns an arrow at the border for each end of an interval that is beyond it."""
    low, high = ends
    inset = 0.02 * (high - low)
    found = [
        (i, x, symbol)
        for i, _, left, right in _beyond(info, ends)
        for x, symbol, there in ((low + inset, "triangle-left", left), (high - inset, "triangle-right", right))
        if there
    ]
    if not found:
        return []
    marker = {"size": 10, "color": [_look(info.rows[i]).color for i, *_ in found], "symbol": [s for *_, s in found]}
    return [
        go.Scatter(
            x=[x for _, x, _ in found],
            y=[i for i, *_ in found],
            mode="markers",
            marker=marker,
            hovertext=[hover(info.rows[i], info.digits) for i, *_ in found],
            hoverinfo="text",
        )
    ]


def _paper(info: ForestInfo) -> go.Scatter:
    found = [(i, row, row.paper) for i, row in enumerate(info.rows) if row.paper is not None]
    return go.Scatter(
        x=[value for _, _, value in found],
        y=[i for i, _, _ in found],
        mode="markers",
        opacity=0.5,
        marker={"size": 9, "color": [style.color(row.lawn) for _, row, _ in found], "symbol": "diamond"},
        hovertext=[f"paper: {signed(value, 2)} points, difference of two printed means" for _, _, value in found],
        hoverinfo="text",
    )


def _unmeasured(info: ForestInfo) -> list[dict[str, Any]]:
    """Returns the notes next to zero that state why a pair has no mean."""
    return [
        {
            "x": 0, "y": i, "text": escape(row.verdict.value), "showarrow": False, "xanchor": "left", "xshift": 8,
            "font": {"size": 12}, "hovertext": hover(row, info.digits),
        }
        for i, row in enumerate(info.rows)
        if row.mean is None
    ]  # fmt: skip


def _far(info: ForestInfo, ends: Ends) -> list[dict[str, Any]]:
    """Returns the means that are beyond the axis as texts at its border."""
    low, high = ends
    return [
        {
            "x": low if mean < low else high, "y": i, "text": f"mean {signed(mean, info.digits)}", "showarrow": False,
            "xanchor": "left" if mean < low else "right", "xshift": 14 if mean < low else -14, "yanchor": "bottom",
            "font": {"size": 11}, "opacity": 0.8,
        }
        for i, row in enumerate(info.rows)
        if (mean := row.mean) is not None and not low <= mean <= high
    ]  # fmt: skip


def _sides(info: ForestInfo, *, aside: bool) -> list[dict[str, Any]]:
    """Returns the notes above the axis that name the side on which each wins; short, since phones are narrow.

    Args:
        info: what is drawn.
        aside: the left one starts above the labels, which leave the axis little room.
    """
    left, right = (info.baseline, info.challenger) if info.maximize else (info.challenger, info.baseline)
    place = {"y": 1, "xref": "paper", "yref": "paper", "yanchor": "bottom", "showarrow": False, "opacity": 0.8}
    look = place | {"font": {"size": 11}}
    return [
        look | {"text": f"← {left}", "x": 0, "xanchor": "left", "xshift": -70 * aside},
        look | {"text": f"{right} →", "x": 1, "xanchor": "right"},
    ]


def _ends(rows: Sequence[ForestRow]) -> Ends:
    """Returns the ends of the axis."""
    papers = [(row.paper, row.paper) for row in rows if row.paper is not None]
    means = [row.mean for row in rows if row.mean is not None]
    return window([*filter(None, map(_span, rows)), *papers], means, air=0.08)


def _span(row: ForestRow) -> Ends | None:
    """Returns the ends of a pair's interval, or its mean twice; None without either."""
    if row.mean is None:
        return None
    return (row.mean, row.mean) if row.low is None or row.high is None else (row.low, row.high)


def _beyond(info: ForestInfo, ends: Ends) -> list[tuple[int, Ends, bool, bool]]:
    """Returns the pairs that leave the axis: place, ends, and whether it is on the left and on the right."""
    low, high = ends
    spans = [(i, span) for i, row in enumerate(info.rows) if (span := _span(row)) is not None]
    return [(i, span, span[0] < low, span[1] > high) for i, span in spans if span[0] < low or span[1] > high]


def beyond_text(info: ForestInfo) -> str:
    """Returns the numbers of the pairs that the axis is too short for, in a sentence; "" where it holds all."""
    names, texts = _names(info), []
    for i, (low, high), *_ in _beyond(info, _ends(info.rows)):
        ends = dict.fromkeys((signed(low, info.digits), signed(high, info.digits)))
        texts.append(f"{names[i]}, batch {info.rows[i].batch_size:,} ({' to '.join(ends)})")
    return f" Beyond the axis: {'; '.join(texts)}." if texts else ""


def _labels(info: ForestInfo) -> tuple[list[str], bool]:
    """Returns each pair by its name with its verdict.

    Where there are several spaces, the first pair of each names it. Also returns whether any is too long for a phone:
    names then have lines of their own.
    """
    names = _names(info)
    long = any(len(f"{name}, batch {row.batch_size:,}") > _LONG for row, name in zip(info.rows, names, strict=True))
    labels = [_label(row, name, long=long) for row, name in zip(info.rows, names, strict=True)]
    for i, row in enumerate(info.rows):
        if info.several and (i == 0 or info.rows[i - 1].space != row.space):
            labels[i] = f"<b>{escape(cut(row.space))}</b><br>{labels[i]}"
    return labels, long


def _names(info: ForestInfo) -> list[str]:
    """Returns the name of each pair: its baseline, or its challenger where a baseline has several there."""
    rivals = Counter((row.space, row.base, row.batch_size) for row in info.rows)
    alone = [rivals[row.space, row.base, row.batch_size] == 1 for row in info.rows]
    return [method(row.base if only else row.lawn) for row, only in zip(info.rows, alone, strict=True)]


def _label(row: ForestRow, name: str, *, long: bool) -> str:
    verdict = escape(row.short)
    strong = f"<b>{verdict}</b>" if row.tone in ("better", "worse") else verdict
    batch = f"batch {row.batch_size:,}"
    lines = (wrapped(name, _LONG), f"{batch}, {strong}") if long else (f"{escape(name)}, {batch}", strong)
    return f"{lines[0]}<br><span style='font-size:11px'>{lines[1]}</span>"


def hover(row: ForestRow, digits: int) -> str:
    """Returns a pair's hover text, escaped, in short lines."""
    parts = [row.sentence]
    if row.mean is not None and not row.confirmed:
        parts.append(f"Difference of the best search values: {signed(row.mean, digits)}; not confirmed by fresh runs.")
    return "<br>".join(wrapped(part) for part in parts)
