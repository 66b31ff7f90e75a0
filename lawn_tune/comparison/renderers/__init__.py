"""A comparison as text, one file per format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.renderers.exchange import json_text
from lawn_tune.comparison.renderers.latex import latex
from lawn_tune.comparison.renderers.markdown import markdown
from lawn_tune.comparison.renderers.spreadsheet import csv_text

Format = Literal["rich", "md", "csv", "json", "latex"]

RENDERERS: Mapping[str, Callable[[Comparison], str]] = {
    "md": markdown,
    "csv": csv_text,
    "json": json_text,
    "latex": latex,
}
"""Formats that are text; "rich" prints to a console instead."""
