"""Reliability diagrams: how often predictions of each confidence are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank
from dashboards.figures.chosen_trials import Chosen, tint
from lawn_tune.cells import Cell
from lawn_tune.results import CalibrationBin, TrialRow
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import ECE_BINS


class ReliabilityLine(NamedTuple):
    """One trial's filled bins on the test split, and their expected calibration error as a fraction."""

    trial: Chosen
    bins: tuple[CalibrationBin, ...]
    examples: int
    ece: float


class ReliabilityInfo(NamedTuple):
    """The diagrams of several trials; `without` are those that recorded none, `bins` how many equal ones there are."""

    lines: tuple[ReliabilityLine, ...]
    without: tuple[Chosen, ...]
    bins: int


def reliability_info(trials: Sequence[Chosen], rows: Sequence[TrialRow]) -> ReliabilityInfo:
    """Returns the diagrams of the selected trials, in their order; `rows` are the trials' own."""
    lines = tuple(_line(trial, row) for trial, row in zip(trials, rows, strict=True) if row.calibration)
    without = tuple(trial for trial, row in zip(trials, rows, strict=True) if not row.calibration)
    return ReliabilityInfo(lines, without, ECE_BINS)


def ranks(cell: Cell) -> bool:
    """True for a task that ranks candidates: its scores are not probabilities, so nothing is calibrated."""
    known = DATASETS.get(cell.task.dataset)
    return known is not None and "hr@10" in known.metrics


def _line(trial: Chosen, row: TrialRow) -> ReliabilityLine:
    examples = sum(b.examples for b in row.calibration)
    gaps = math.fsum(b.examples * abs(b.accuracy - b.confidence) for b in row.calibration)
    return ReliabilityLine(trial, row.calibration, examples, gaps / examples)


# --- drawing ----------------------------------------------------------------------------------------------------------


def reliability_figure(info: ReliabilityInfo) -> go.Figure:
    """Draws accuracy against confidence, and below it how many predictions each bin holds; calibrated: the diagonal."""
    figure = blank(height=470, legend=False)
    diagonal = {"color": style.ZERO, "width": 1.2, "dash": "2px,3px"}
    figure.add_trace(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=diagonal, hoverinfo="skip"))
    for line in info.lines:
        figure.add_traces([_accuracy(line), _shares(line, info.bins)])
    figure.update_layout(
        xaxis={"title": {"text": "Confidence of the predicted class (%)"}, "anchor": "y2", "range": [0, 101]},
        yaxis={"title": {"text": "Accuracy (%)"}, "domain": [0.36, 1], "range": [0, 102]},
        yaxis2={"title": {"text": "Share (%)"}, "domain": [0, 0.26], "rangemode": "tozero", "anchor": "x", "nticks": 4},
        hovermode="closest",
        margin={"t": 16, "b": 48},
    )
    return figure


def _accuracy(line: ReliabilityLine) -> go.Scatter:
    return go.Scatter(
        x=[100 * b.confidence for b in line.bins],
        y=[100 * b.accuracy for b in line.bins],
        mode="lines+markers",
        line={"color": _faint(tint(line.trial)), "width": 1.2, "dash": style.dash(line.trial.optimizer)},
        marker={"color": tint(line.trial), "size": [5 + 11 * (b.examples / line.examples) ** 0.5 for b in line.bins]},
        cliponaxis=False,
        hovertext=[
            f"<b>{line.trial.letter}  {escape(line.trial.name)}</b><br>"
            f"{b.examples:,} of {line.examples:,} predictions<br>"
            f"confidence {100 * b.confidence:.1f} %, right {100 * b.accuracy:.1f} %"
            for b in line.bins
        ],
        hoverinfo="text",
    )


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.5)"


def _shares(line: ReliabilityLine, bins: int) -> go.Scatter:
    counts = {b.place: b.examples for b in line.bins}
    shares = [100 * counts.get(i, 0) / line.examples for i in range(bins)]
    return go.Scatter(
        x=[100 * i / bins for i in range(bins + 1)],
        y=[*shares, shares[-1]],
        yaxis="y2",
        mode="lines",
        line={"color": tint(line.trial), "width": 1.5, "shape": "hv", "dash": style.dash(line.trial.optimizer)},
        hoverinfo="skip",
    )
