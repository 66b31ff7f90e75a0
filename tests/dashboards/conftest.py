"""Fixtures of every test that opens a browser."""

from __future__ import annotations

from tests.helpers.browser import browse, chromium, playwright, stages

__all__ = ["browse", "chromium", "playwright", "stages"]
