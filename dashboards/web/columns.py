"""Columns of large tables. Values are plain: numbers stay numbers, so that they sort; nothing is read as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Column = Mapping[str, Any]
"""A column definition of AG Grid, in plain JSON values."""


def text(field: str, title: str, *, width: int = 0) -> Column:
    """Returns a column of texts."""
    return _column(field, title, width)


def number(field: str, title: str, *, digits: int | None = None, width: int = 0, hint: str = "") -> Column:
    """Returns a column of numbers, right-aligned.

    Args:
        digits: decimals; None prints what distinguishes the value, as `:g` does.
    """
    shown = "null" if digits is None else str(digits)
    return _column(field, title, width, hint) | {
        "type": "rightAligned",
        "filter": "agNumberColumnFilter",
        "valueFormatter": {"function": f"lawnNumber(params.value, {shown})"},
    }


def link(field: str, title: str, to: str, *, width: int = 0, hint: str = "") -> Column:
    """Returns a column of texts that lead to pages; `to` is the field that holds the address, made by `View.href`."""
    return _column(field, title, width, hint) | {"cellRenderer": "lawnLink", "cellRendererParams": {"to": to}}


def outcome() -> Column:
    """Returns the column of outcomes, each with its mark and color."""
    return _column("outcome", "Outcome", 110) | {"cellRenderer": "lawnOutcome"}


def _column(field: str, title: str, width: int, hint: str = "") -> dict[str, Any]:
    sized = {"width": width, "minWidth": min(width, 90)} if width else {}
    return {"field": field, "headerName": title, **sized} | ({"headerTooltip": hint} if hint else {})
