"""Numbers to Plotly figures, one module a figure; the only package that knows Plotly. Texts are escaped here."""

from dashboards.figures.base import plain, plotly_js
from dashboards.figures.batch_size import batch_size_figure
from dashboards.figures.curves import curve_figure
from dashboards.figures.grid import grid_figure

__all__ = ["batch_size_figure", "curve_figure", "grid_figure", "plain", "plotly_js"]
