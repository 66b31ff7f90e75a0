"""The part of a heat map around the winner, where the whole would be too large."""

from __future__ import annotations

import math
from typing import TypeVar

from dashboards.figures.heat_map import HeatMapInfo, HeatMapPanel, HeatMapPlace

T = TypeVar("T")


def fewer(info: HeatMapInfo, most: int) -> HeatMapInfo:
    """Returns a grid of about `most` (>= 4) points: levels next to the winner's, in the panels that hold the best."""
    side = math.isqrt(most)
    place = info.winner or HeatMapPlace(0, len(info.y_levels) // 2, len(info.x_levels) // 2)
    rows = _window(len(info.y_levels), place.row, max(side, most // max(1, len(info.x_levels))))
    columns = _window(len(info.x_levels), place.column, max(1, most // len(rows)))
    panels = _best_panels(info, max(1, most // (len(rows) * len(columns))))
    shown = len(panels) * len(rows) * len(columns)
    moved = info.winner and HeatMapPlace(
        panels.index(place.panel), place.row - rows.start, place.column - columns.start
    )
    return info._replace(
        x_levels=_cut(info.x_levels, columns),
        y_levels=_cut(info.y_levels, rows),
        panels=tuple(_cut_panel(info.panels[i], rows, columns) for i in panels),
        winner=moved,
        hidden=info.shown - shown,
    )


def _window(n: int, around: int, most: int) -> range:
    """Returns at most `most` of n consecutive places, with `around` near their middle."""
    start = max(0, min(around - most // 2, n - most))
    return range(start, min(n, start + most))


def _best_panels(info: HeatMapInfo, most: int) -> list[int]:
    """Returns the places of the panels with the best values, the winner's among them, in order."""
    sign = -1.0 if info.direction == "maximize" else 1.0

    def rank(i: int) -> tuple[bool, float]:
        values = [sign * value for row in info.panels[i].values for value in row if value is not None]
        return info.winner is None or i != info.winner.panel, min(values, default=math.inf)

    return sorted(sorted(range(len(info.panels)), key=rank)[:most])


def _cut_panel(panel: HeatMapPanel, rows: range, columns: range) -> HeatMapPanel:
    return HeatMapPanel(
        label=panel.label,
        values=tuple(_cut(row, columns) for row in _cut(panel.values, rows)),
        statuses=tuple(_cut(row, columns) for row in _cut(panel.statuses, rows)),
        keys=tuple(_cut(row, columns) for row in _cut(panel.keys, rows)),
    )


def _cut(values: tuple[T, ...], places: range) -> tuple[T, ...]:
    return values[places.start : places.stop]
