"""Performance profiles as steps."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, named
from dashboards.figures.legends import UNDER
from dashboards.numbers.profile import ProfileInfo, ProfileLine


def profile_figure(info: ProfileInfo) -> go.Figure:
    """Draws the share of tasks at which each method is within tau percent of the best, against tau."""
    figure = blank(height=340)
    figure.update_layout(margin={"t": 12, "b": 96}, legend=UNDER)
    last = 1.15 * max((gap for line in info.lines for gap in line.gaps), default=0.0) or 1.0
    for line in info.lines:
        figure.add_trace(_steps(line, last))
    figure.update_xaxes(title_text="within … percent of the best", range=[0, last], ticksuffix=" %")
    figure.update_yaxes(title_text="share of tasks", range=[-0.03, 1.05], tickformat=".0%")
    return figure


def _steps(line: ProfileLine, last: float) -> go.Scatter:
    gaps, shares = [0.0, *line.gaps, last], [line.within(0.0), *line.shares]
    return go.Scatter(
        name=named(line.optimizer),
        x=gaps,
        y=[*shares, shares[-1]],
        mode="lines",
        line={"shape": "hv", "color": style.colour(line.optimizer), "width": 2, "dash": style.dash(line.optimizer)},
        hovertemplate=f"{named(line.optimizer)}: within %{{x:.2f}} % at %{{y:.0%}} of {line.n} tasks<extra></extra>",
    )
