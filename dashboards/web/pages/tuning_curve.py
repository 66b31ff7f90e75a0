"""What a smaller search would have found: the expected best of k random points, and what points cost."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboards.figures.base import plain
from dashboards.figures.best_so_far import Spent
from dashboards.figures.tuning_curve import (
    ROUND,
    Drawn,
    TuningCurveInfo,
    TuningLine,
    reached,
    tuning_curve_figure,
    tuning_curve_info,
)
from dashboards.web import components
from dashboards.web.cards import Block, Drawing, FigureCard, page
from dashboards.web.comparison_part import main_first
from dashboards.web.components import Content
from dashboards.web.page import Empty, View
from lawn_tune.comparison.comparison import PairResult
from lawn_tune.words import count, duration, fixed, method

AGAINST = (("points", "grid points"), ("time", "device time"))

DEFINITION = (
    "Draw k different points at random from the finished points of a grid, and take the best by the value that "
    "selects. The line is the mean of that best over all such draws; the band holds the middle 80 % of them; both are "
    "exact: the chance that the r-th best of N points is the best of k is C(N − r, k − 1) / C(N, k).",
    "The lower panel is the test value of the point selected, over the same draws: its mean and the middle 80 %. It "
    "comes from the same runs as the selection; fresh seeds are on the Compare page.",
    "A diverged point counts as drawn and has no value. Draws that hold no value at all are left out of the mean; the "
    "table shows how often that happens. Time is k times the mean device time of a point, diverged ones included.",
)


def pairs(view: View) -> dict[str, PairResult]:
    """Returns the pairs by the value of their filter, "adam-lawn:adam/bs64"; the first is the one shown at first."""
    return {_key(pair): pair for pair in main_first(view.snapshot.comparison)}


def _key(pair: PairResult) -> str:
    challenger, baseline = (side.cell.name.optimizer for side in (pair.challenger, pair.baseline))
    return f"{challenger}:{baseline}/bs{pair.batch_size}"


def _controls(view: View) -> list[Component]:
    found = [(name, _label(pair)) for name, pair in pairs(view).items()]
    pair = [components.choice(view, "pair", "Pair", found, found[0][0])] if found else []
    return [*pair, components.choice(view, "against", "Against", AGAINST, "points")]


def _label(pair: PairResult) -> str:
    challenger, baseline = (method(side.cell.name.optimizer) for side in (pair.challenger, pair.baseline))
    return f"{challenger} − {baseline}, batch {pair.batch_size:,}"


def info_of(view: View) -> TuningCurveInfo | Empty:
    """Returns the numbers of the pair that is selected; computed once per snapshot."""
    found = pairs(view)
    if not found:
        return Empty("This space has no pair of a base optimizer and its LAWN variant.")
    name = view.filters.one("pair")
    pair = found.get(name) or next(iter(found.values()))
    info = view.snapshot.once(
        f"tuning curve {_key(pair)}",
        lambda: tuning_curve_info((pair.baseline, pair.challenger), view.snapshot.by_key),
    )
    return info if info.lines else Empty("No point of either grid is complete yet.")


def expected(view: View) -> Drawing | Empty:
    """Draws the expected best of both rivals."""
    info = info_of(view)
    if isinstance(info, Empty):
        return info
    against: Spent = "time" if view.filters.one("against") == "time" else "points"
    figure = plain(tuning_curve_figure(info, against))
    figure["layout"]["title"]["text"] = ""
    figure["layout"]["margin"]["t"] = 12
    return Drawing(figure, " ".join(sentences(info)))


def sentences(info: TuningCurveInfo) -> list[str]:
    """Returns what one point and all points give by the value that selects, and when one rival is sure to match."""
    notes = [
        f"{method(line.optimizer)}: the best {info.value} of one random point is {_spread(info, line.draws[0])}, "
        f"of all {line.draws[-1].k} {fixed(line.draws[-1].value, info.digits)} {info.unit}."
        for line in info.lines
    ]
    return [*notes, _matched(info, *info.lines)] if len(info.lines) == 2 else notes


def _spread(info: TuningCurveInfo, drawn: Drawn) -> str:
    low, high = (fixed(end, info.digits) for end in (drawn.low, drawn.high))
    return f"{fixed(drawn.value, info.digits)} (80 % of draws: {low} to {high})"


def _matched(info: TuningCurveInfo, one: TuningLine, other: TuningLine) -> str:
    sign = 1 if info.direction == "maximize" else -1
    better, worse = (one, other) if sign * one.draws[-1].value >= sign * other.draws[-1].value else (other, one)
    k = reached(better, worse.draws[-1].value, info.direction) or better.finished
    return (
        f"In 9 of 10 draws, {count(k, 'random point')} of {method(better.optimizer)} are as good by {info.value} "
        f"as the whole grid of {method(worse.optimizer)} ({count(worse.finished, 'point')})."
    )


def definition(view: View) -> list[Component]:
    """Returns how the numbers are made."""
    return [html.P(text, className="help") for text in DEFINITION]


_COSTS = ("Method", "Points", "Diverged", "Time per point", "Total time")


def costs(view: View) -> list[Component] | Empty:
    """Returns what the grids of both rivals cost."""
    info = info_of(view)
    if isinstance(info, Empty):
        return info
    lines: list[list[Content]] = [
        [
            components.method_name(line.optimizer),
            f"{line.finished:,} of {line.planned:,}",
            f"{line.diverged:,}",
            duration(line.seconds / line.finished),
            duration(line.seconds),
        ]
        for line in info.lines
    ]
    return [components.table(_COSTS, lines, "Costs", numbers=range(1, len(_COSTS)))]


def table(view: View) -> list[Component] | Empty:
    """Returns the expected best of both rivals for a few numbers of points."""
    info = info_of(view)
    if isinstance(info, Empty):
        return info
    unit = f", {info.unit}" if info.unit else ""
    header = ("k", "Method", f"Best expected{unit}", "80 % of draws", f"Test value{unit}", "Device time", "No value")
    wanted = {*ROUND, *(line.finished for line in info.lines)}
    drawn = [(drawn.k, line, drawn) for line in info.lines for drawn in line.draws if drawn.k in wanted]
    drawn.sort(key=lambda found: found[0])
    lines = [
        _drawn_row(info, line, draw, first=i == 0 or k != drawn[i - 1][0]) for i, (k, line, draw) in enumerate(drawn)
    ]
    return [components.table(header, lines, "Expected best of k random points", numbers=(0, 2, 3, 4, 5, 6))]


def _drawn_row(info: TuningCurveInfo, line: TuningLine, drawn: Drawn, *, first: bool) -> list[Content]:
    def text(value: float | None) -> str:
        return "–" if value is None else fixed(value, info.digits)

    lost = 1 - drawn.found
    return [
        f"{drawn.k:,}" if first else None,
        components.method_name(line.optimizer),
        text(drawn.value),
        f"{text(drawn.low)} to {text(drawn.high)}",
        text(drawn.test),
        duration(drawn.seconds),
        "–" if lost < 5e-5 else f"{100 * lost:.2g} %",
    ]


PAGE = page(
    path="/tuning-curve",
    title="Tuning",
    order=50,
    lead=lambda view: (
        "Tuning curves: how much search each rival needs, by what a smaller grid drawn at random would have found."
    ),
    controls=_controls,
    cards=(
        FigureCard(
            name="tuning-expected", title="Expected best of k random points", draw=expected, height=560, wide=True
        ),
        Block(name="tuning-costs", title="Cost", render=costs, early=True),
        Block(name="tuning-definition", title="How it is computed", render=definition, early=True),
        Block(name="tuning-table", title="In numbers", render=table, wide=True),
    ),
)
