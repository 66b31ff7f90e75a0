"""What each figure shows, as numbers: a comparison and its curves become named tuples, one module a figure."""

from dashboards.numbers.batch_size import BatchSizeInfo, BatchSizeLine, batch_size_info
from dashboards.numbers.curves import CURVE_POINTS, Curve, CurveInfo, Curves, curve_infos, curve_keys
from dashboards.numbers.grid import GridInfo, GridPanel, GridPlace, grid_infos

__all__ = [
    "CURVE_POINTS",
    "BatchSizeInfo",
    "BatchSizeLine",
    "Curve",
    "CurveInfo",
    "Curves",
    "GridInfo",
    "GridPanel",
    "GridPlace",
    "batch_size_info",
    "curve_infos",
    "curve_keys",
    "grid_infos",
]
