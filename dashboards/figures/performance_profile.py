"""Performance profiles: how often each method is near the best of a task at a batch size (Dolan and Moré 2002)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, named, under
from lawn_tune.comparison.comparison import CellResult

MIN_TASKS = 3
"""Tasks below which a share is not informative."""


class ProfileLine(NamedTuple):
    """One method: the gaps at which its share rises, ascending, and the share from there on, of n tasks."""

    optimizer: str
    gaps: tuple[float, ...]
    shares: tuple[float, ...]
    n: int

    def within(self, gap: float) -> float:
        """Returns the share of tasks where the method is within `gap` percent of the best."""
        return max((share for at, share in zip(self.gaps, self.shares, strict=True) if at <= gap), default=0.0)


class ProfileInfo(NamedTuple):
    """Every method's profile.

    Args:
        lines: in the order of the cells.
        tasks: those (space, batch size) where each method has a confirmed mean or trains nowhere, and one trains.
        unsettled: those where confirm runs are missing, which are left out.
    """

    lines: tuple[ProfileLine, ...]
    tasks: int
    unsettled: int


def profile_info(results: Sequence[CellResult]) -> ProfileInfo:
    """Returns the profiles of the methods over the tasks (space, batch size) that have at least two of them.

    The gap of method m at task p is g(m, p) = 100·|v(m, p) − best(p)| / |best(p)| percent, v the confirmed mean, and
    infinite where m diverges everywhere. Its profile is rho_m(tau) = share of its tasks with g <= tau.

    Source: Dolan and Moré 2002, with the gap to the best value in place of the time to a target (our choice).
    """
    every = [cells for cells in _tasks(results).values() if len(cells) > 1]
    settled = [cells for cells in every if all(r.confirmed or r.all_diverged for r in cells)]
    judged = [cells for cells in settled if any(r.confirmed for r in cells)]  # no method is best where none trains
    gaps: dict[str, list[float]] = {}
    for cells in judged:
        for optimizer, gap in _gaps(cells).items():
            gaps.setdefault(optimizer, []).append(gap)
    names = dict.fromkeys(result.cell.name.optimizer for result in results)
    lines = tuple(_line(name, gaps[name]) for name in names if name in gaps)
    return ProfileInfo(lines, len(judged), len(every) - len(settled))


def _tasks(results: Iterable[CellResult]) -> Mapping[tuple[str, int], list[CellResult]]:
    found: dict[tuple[str, int], list[CellResult]] = {}
    for result in results:
        found.setdefault((result.cell.name.space, result.cell.name.batch_size), []).append(result)
    return found


def _gaps(cells: Sequence[CellResult]) -> dict[str, float]:
    means = {r.cell.name.optimizer: r.confirmed.mean for r in cells if r.confirmed}
    best = (max if cells[0].cell.protocol.direction == "maximize" else min)(means.values())
    return {r.cell.name.optimizer: _gap(means.get(r.cell.name.optimizer), best) for r in cells}


def _gap(value: float | None, best: float) -> float:
    if value is None:
        return math.inf
    if value == best:
        return 0.0
    return 100 * abs(value - best) / abs(best) if best else math.inf


def _line(optimizer: str, gaps: Sequence[float]) -> ProfileLine:
    finite = sorted(gap for gap in gaps if math.isfinite(gap))
    steps = sorted(set(finite))
    shares = [sum(gap <= at for gap in finite) / len(gaps) for at in steps]
    return ProfileLine(optimizer, tuple(steps), tuple(shares), len(gaps))


# --- drawing ----------------------------------------------------------------------------------------------------------


def profile_figure(info: ProfileInfo) -> go.Figure:
    """Draws the share of tasks at which each method is within tau percent of the best, against tau."""
    figure = blank(height=330 + 10 * len(info.lines))
    figure.update_layout(under(len(info.lines)))
    last = 1.15 * max((gap for line in info.lines for gap in line.gaps), default=0.0) or 1.0
    for line in info.lines:
        figure.add_trace(_steps(line, last))
    figure.update_xaxes(title_text="Within … percent of the best", range=[0, last], ticksuffix=" %")
    figure.update_yaxes(title_text="Share of tasks", automargin=True, range=[-0.03, 1.05], tickformat=".0%")
    return figure


def _steps(line: ProfileLine, last: float) -> go.Scatter:
    gaps, shares = [0.0, *line.gaps, last], [line.within(0.0), *line.shares]
    return go.Scatter(
        name=named(line.optimizer),
        x=gaps,
        y=[*shares, shares[-1]],
        mode="lines",
        line={"shape": "hv", "color": style.color(line.optimizer), "width": 2, "dash": style.dash(line.optimizer)},
        hovertemplate=f"{named(line.optimizer)}: within %{{x:.2f}} % at %{{y:.0%}} of {line.n} tasks<extra></extra>",
    )
