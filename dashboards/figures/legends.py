"""Where the legend of a figure stands."""

from __future__ import annotations

UNDER = {"yref": "container", "yanchor": "bottom", "y": 0}
"""At the bottom edge, growing upwards, so that it meets no axis title when a narrow screen breaks it into rows."""
