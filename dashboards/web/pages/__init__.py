"""The only table of pages: one line each."""

from __future__ import annotations

from dashboards.web.page import Page
from dashboards.web.pages.cell import PAGE as CELL
from dashboards.web.pages.comparison import PAGE as COMPARISON
from dashboards.web.pages.dynamics import PAGE as DYNAMICS
from dashboards.web.pages.progress import PAGE as PROGRESS
from dashboards.web.pages.trial import PAGE as TRIAL
from dashboards.web.pages.tuning_curve import PAGE as TUNING_CURVE
from dashboards.web.pages.verdict import PAGE as VERDICT

PAGES: tuple[Page, ...] = (VERDICT, COMPARISON, CELL, DYNAMICS, TUNING_CURVE, PROGRESS, TRIAL)
"""Every page, in any order; `Page.order` is the order of the navigation."""
