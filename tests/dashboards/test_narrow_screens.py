"""On a phone, texts of figures, tables and controls neither overlap nor are cut off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from lawn_tune.cells import Cell, default_baselines
from lawn_tune.results import TrialRow
from search_spaces.space import Grid
from tests.helpers.browser import NARROW, WIDE, Browse, Site
from tests.helpers.memory_source import MemorySource, make_cell
from tests.helpers.pair_source import confirmed, joined
from tests.helpers.studied import studied
from trainables.catalogue.methods import METHODS

LONG_NAMES = (
    *("adam-lawn-attenuated", "adam-lsr", "adam-lawn-unprojected-fixed"),
    *("adam-bwn-unprojected", "adam-bwn-unprojected-fixed"),
)
LONG_SPACE = "movielens_100k_bs10000_40epochs"
LEVELS = (0.1, 0.5, 0.9)
START = datetime(2026, 11, 24, 3, 17, tzinfo=UTC)


def dated(row: TrialRow, i: int) -> TrialRow:
    """The row as of a pack of its own, one of two that were trained at a time for 20 seconds each."""
    times = {name: START + timedelta(seconds=10 * i + more) for name, more in (("started", 0), ("ended", 20))}
    where = {**row.provenance, "host": "vm", "device": "cpu: x86_64"}
    return replace(row, pack=f"p{i}", provenance={**where, **{name: time.isoformat() for name, time in times.items()}})


def cell_of(method: str) -> Cell:
    row, cell = METHODS[method], make_cell(batch_size=10_000)
    rate, warmup, other, *_ = row.hyperparameters
    grid = Grid({rate: LEVELS, warmup: (2.0,), other: LEVELS})
    task = replace(cell.task, optimizer=method)
    return replace(cell, name=cell.rival(method), task=task, grid=grid, baselines=default_baselines(row))


def searched_by(*methods: str) -> MemorySource:
    source = joined(*(confirmed(cell_of(name), [150, 151, 155]) for name in methods))
    source.rows = [dated(row, i) for i, row in enumerate(source.rows)]
    return source


@pytest.mark.parametrize("methods", [("adam", "adam-lawn"), ("adam", *LONG_NAMES)], ids=["a pair", "long names"])
def test_texts_of_figures_do_not_meet(browse: Browse, methods: tuple[str, ...]) -> None:
    site = browse(searched_by(*methods))
    for viewport in (NARROW, WIDE):
        site.page.set_viewport_size(viewport)
        for path in ("/", "/compare", "/progress"):
            site.open(path)
            assert site.collisions() == []


@pytest.fixture
def phone(browse: Browse) -> Site:
    """A ledger of two spaces on a phone."""
    source, runs = studied(), {"adam": [150, 151, 155], "adam-lawn": [120, 180, 190]}
    other = joined(*(confirmed(make_cell(name, space=LONG_SPACE), hits) for name, hits in runs.items()))
    source.planned += other.planned
    source.rows += other.rows
    return browse(source, viewport=NARROW)


def overflowing(site: Site, selector: str) -> list[str]:
    """Returns the texts that are wider than their place, or end beyond the screen."""
    found: list[str] = site.page.locator(selector).evaluate_all(
        """all => all.filter((one) => one.scrollWidth > one.clientWidth + 1
            || one.getBoundingClientRect().right > innerWidth).map((one) => one.textContent)"""
    )
    return found


def test_the_verdict_of_every_space_is_in_view(phone: Site) -> None:
    rows = phone.open("/?space=digits").locator("#verdict-spaces tbody tr")
    expect(rows).to_have_count(2)
    assert overflowing(phone, "#verdict-spaces td") == []
    for row in rows.all():
        place = row.bounding_box()
        assert place is not None
        assert place["height"] < 120


def test_names_of_facts_controls_and_trials_are_whole(phone: Site) -> None:
    page = phone.open("/cell?space=digits")
    assert overflowing(phone, ".mantine-SegmentedControl-label") == []
    assert overflowing(phone, "#cell-trials .ag-cell[col-id=trial]") == []
    page.locator("#cell-trials .ag-cell[col-id=trial] a").first.click()
    phone.until("document.querySelector('#trial-recorded dt')")
    phone.settled()
    assert overflowing(phone, ".facts dt") == []
