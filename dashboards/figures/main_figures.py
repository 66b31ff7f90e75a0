"""The figures that answer the question, for every form of a report: differences, metric over batch sizes, curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.batch_size import batch_size_figure, batch_size_info
from dashboards.figures.forest import FOREST_HELP, beyond_text, forest_figure, forest_info
from dashboards.figures.learning_curves import curve_figure, curve_infos
from dashboards.figures.series import Curves
from lawn_tune.comparison.comparison import Comparison

HELP: Mapping[str, str] = {
    "differences": FOREST_HELP,
    "sizes": (
        "Bars: ± one standard error over seeds. Open markers: search values, not confirmed. Points at the same batch "
        "size are drawn slightly apart."
    ),
    "curves": (
        "Mean over runs, band from the lowest to the highest run. Diamonds: the end of the free phase, after which "
        "LAWN holds every constrained norm. Margin: median over training examples; train loss: mean of the epoch."
    ),
}
"""Kind of figure → how to read it."""


class MainFigure(NamedTuple):
    """A figure, its kind, its name among all figures, and what it shows in words."""

    kind: str
    name: str
    alt: str
    figure: go.Figure


def main_figures(comparison: Comparison, curves: Curves, epochs: int) -> Iterator[MainFigure]:
    """Yields those that there is something to draw in.

    Args:
        comparison: of one space.
        curves: of its winners' trials.
        epochs: most points of a learning curve.
    """
    differences, sizes = forest_info(comparison.pairs), batch_size_info(comparison)
    if any(row.confirmed for row in differences.rows):
        alt = "Paired differences with 95 % intervals; the same numbers are in the table of differences"
        if beyond := beyond_text(differences):
            alt = f"{alt}.{beyond}"
        yield MainFigure("differences", "differences", alt, forest_figure(differences))
    if sizes.lines:
        alt = "Test metric against batch size; the same numbers are in the table of values"
        yield MainFigure("sizes", "sizes", alt, batch_size_figure(sizes))
    for curve in curve_infos(comparison, curves, epochs):
        alt = f"Learning curves, median margins and train losses of the winners at batch {curve.batch_size:,}"
        yield MainFigure("curves", f"curve-{curve.batch_size}", alt, curve_figure(curve))
