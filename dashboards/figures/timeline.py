"""When which pack was trained on which device: a row for each pack that a device trained at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, cut, named, under
from lawn_tune.cells import Cell
from lawn_tune.results import UTILIZATION, TrialRow
from lawn_tune.words import count, duration, method

MAX_JOBS = 2_000
"""Packs that are drawn, the last ones."""


class Job(NamedTuple):
    """One pack's last start: cell, trials, and dates.

    Args:
        memory: most that a trial of it took, bytes; None if unknown.
        busy: share of its device that it kept busy, 0 to 1; None if unknown.
    """

    cell: Cell
    device: str
    started: datetime
    ended: datetime
    trials: int
    memory: float | None
    busy: float | None = None


class Lane(NamedTuple):
    """A row: jobs of one device that do not overlap; `label` is "" except in the first row of a device."""

    label: str
    jobs: tuple[Job, ...]


class TimelineInfo(NamedTuple):
    """All rows, by device; `busy` is device → share of the time from its first start to its last end with a job."""

    lanes: tuple[Lane, ...]
    busy: Mapping[str, float]
    hidden: int


def timeline_info(cells: Sequence[Cell], rows: Iterable[TrialRow]) -> TimelineInfo:
    """Returns the finished packs whose trials state where and when they were trained."""
    known = {str(cell.name): cell for cell in cells}
    packs: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.cell in known and row.provenance.get("started") and row.provenance.get("ended"):
            packs.setdefault(f"{row.pack} {row.provenance['started']}", []).append(row)
    jobs = sorted((_job(known, members) for members in packs.values()), key=lambda job: job.started)
    shown = jobs[-MAX_JOBS:]
    devices = sorted({job.device for job in shown})
    lanes = [lane for device in devices for lane in _lanes(device, [job for job in shown if job.device == device])]
    busy = {device: _busy([job for job in jobs if job.device == device]) for device in devices}
    return TimelineInfo(tuple(lanes), busy, len(jobs) - len(shown))


def _job(cells: Mapping[str, Cell], members: Sequence[TrialRow]) -> Job:
    of = members[0].provenance
    peaks = [peak for row in members if (peak := row.summary.get("peak_memory_bytes")) is not None]
    return Job(
        cell=cells[members[0].cell],
        device=", ".join(str(of[name]) for name in ("host", "device") if of.get(name)) or "unknown device",
        started=min(datetime.fromisoformat(str(row.provenance["started"])) for row in members),
        ended=max(datetime.fromisoformat(str(row.provenance["ended"])) for row in members),
        trials=len(members),
        memory=max(peaks, default=None),
        busy=float(busy) if isinstance(busy := of.get(UTILIZATION), int | float) else None,
    )


def _lanes(device: str, jobs: Sequence[Job]) -> list[Lane]:
    """Returns as few rows as the jobs, by start, need."""
    rows: list[list[Job]] = []
    for job in jobs:
        free = next((row for row in rows if row[-1].ended <= job.started), None)
        if free is None:
            rows.append([job])
        else:
            free.append(job)
    return [Lane(device if i == 0 else "", tuple(row)) for i, row in enumerate(rows)]


def _busy(jobs: Sequence[Job]) -> float:
    """Returns the share of the time from the first start to the last end in which at least one job ran."""
    whole = (max(job.ended for job in jobs) - jobs[0].started).total_seconds()
    covered, until = 0.0, jobs[0].started
    for job in jobs:
        start = max(job.started, until)
        covered += max(0.0, (job.ended - start).total_seconds())
        until = max(until, job.ended)
    return covered / whole if whole else 1.0


# --- drawing ----------------------------------------------------------------------------------------------------------

_ROW, _DATE = 22, 16
"""Pixels of a row, and of the line with the date below the times."""

_HALF = 16
"""Letters of a method's name that leave room for another next to it in the legend of a phone."""

_DAY = 86_400_000
_TIMES = [
    {"dtickrange": [None, 60_000], "value": "%H:%M:%S\n%b %-d, %Y (UTC)"},
    {"dtickrange": [60_000, _DAY - 1], "value": "%H:%M\n%b %-d, %Y (UTC)"},
    {"dtickrange": [_DAY, None], "value": "%b %-d\n%Y (UTC)"},
]
"""How times are shown, by the milliseconds between two: the zone stands with the date, below the first time."""


def timeline_figure(info: TimelineInfo) -> go.Figure:
    """Draws each pack as a bar from start to end in its method's color; rows of one device lie together."""
    methods = dict.fromkeys(job.cell.name.optimizer for lane in info.lanes for job in lane.jobs)
    names = sum(2 if len(method(name)) > _HALF else 1 for name in methods)
    figure = blank(height=_ROW * max(2, len(info.lanes)) + 100 + _DATE + 11 * names)
    figure.update_layout(under(names), hovermode="closest")
    figure.layout.margin.b += _DATE
    for optimizer in methods:
        figure.add_trace(_bars(info, optimizer))
    figure.update_xaxes(type="date", nticks=4, tickangle=0, tickformatstops=_TIMES)
    figure.update_yaxes(
        tickvals=list(range(len(info.lanes))), ticktext=[escape(cut(lane.label)) for lane in info.lanes], ticks="",
        range=[max(2, len(info.lanes)) - 0.5, -0.5], showgrid=False, zeroline=False, automargin=True,
    )  # fmt: skip
    return figure


def _bars(info: TimelineInfo, optimizer: str) -> go.Scatter:
    jobs = [(y, job) for y, lane in enumerate(info.lanes) for job in lane.jobs if job.cell.name.optimizer == optimizer]
    x: list[str | None] = []
    y: list[int | None] = []
    texts: list[str] = []
    for place, job in jobs:
        x += [job.started.isoformat(), job.ended.isoformat(), None]
        y += [place, place, None]
        texts += [_hover(job)] * 2 + [""]
    line = {"color": style.color(optimizer), "width": 11 if style.is_challenger(optimizer) else 5}
    return go.Scatter(name=named(optimizer), x=x, y=y, mode="lines", line=line, hovertext=texts, hoverinfo="text")


def _hover(job: Job) -> str:
    busy = "" if job.busy is None else f", device {job.busy:.0%} busy"
    memory = f", at most {job.memory / 2**20:,.0f} MiB" if job.memory else ""
    spent = duration((job.ended - job.started).total_seconds())
    where = f"<b>{named(job.cell.name.optimizer)}</b>, batch {job.cell.name.batch_size:,}"
    return f"{where}<br>{count(job.trials, 'trial')} in {spent}{busy}{memory}<br>{escape(job.device)}"
