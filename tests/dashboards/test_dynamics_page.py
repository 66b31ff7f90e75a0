"""The Dynamics page in a real browser: trials from the address, one time axis, one damaged curve, nothing recorded."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from lawn_tune.results import TrialRow
from tests.helpers.browser import Browse, drag, x_range
from tests.helpers.memory_source import MemorySource, demo_source, make_cell
from tests.helpers.studied import Damaged, studied

pytestmark = pytest.mark.long

FIGURES = ("together", "loss", "test", "margin", "gradient", "norm", "rate", "validation")


def address(*rows: TrialRow, space: str = "digits", **more: str) -> str:
    return "/dynamics?" + urlencode([("space", space), *(("trial", row.key) for row in rows), *more.items()])


def search(source: Damaged, cell: int, i: int) -> TrialRow:
    key = source.planned[cell].search_trials[i].key
    return next(row for row in source.rows if row.key == key)


def test_two_trials_from_the_address_are_side_by_side(browse: Browse) -> None:
    source = studied()
    page = browse(source).open(address(search(source, 0, 8), search(source, 1, 8)))
    expect(page.locator(".trial-name")).to_have_count(2)
    expect(page.locator(".trial-name").nth(1)).to_contain_text("Adam-LAWN")
    for name in FIGURES:
        expect(page.locator(f"#dynamics-{name} .scatterlayer .trace").nth(1)).to_be_attached()
    expect(page.locator("#dynamics-norm-summary")).to_contain_text("B 12 at the switch (epoch 3), 12 at the end")
    expect(page.locator("#dynamics-reliability-summary")).to_contain_text("A 3.33 %; B 3.33 %")


def test_without_a_choice_the_winners_stand_in(browse: Browse) -> None:
    page = browse(studied()).open("/dynamics?space=digits")
    expect(page.locator("#dynamics-trials")).to_contain_text("No trial is selected: these are the winners")
    expect(page.locator(".trial-name")).to_have_count(2)
    expect(page.locator("#dynamics-validation")).to_contain_text("nothing is left to validate on")
    expect(page.locator("#dynamics-trials")).to_contain_text("no validation metric")


def test_a_trial_is_found_by_words_and_goes_into_the_address(browse: Browse) -> None:
    source = studied()
    site = browse(source)
    page = site.open(address(search(source, 0, 0)))
    page.locator(".control.trials input").first.fill("lawn 0.003 free_epochs")
    option = page.get_by_role("option").filter(has_text="Adam-LAWN, batch 64, peak_lr 0.003, free_epochs 1").first
    option.click()
    expect(page.locator(".trial-name")).to_have_count(2)
    site.settled()
    assert page.url.count("trial=") == 2
    page.go_back()
    expect(page.locator(".trial-name")).to_have_count(1)


def test_a_trial_far_down_a_long_list_is_found(browse: Browse) -> None:
    source = demo_source(epochs=10)
    site = browse(source)
    page = site.open("/dynamics?space=movielens_100k")
    page.locator(".control.trials input").first.fill("lamb-lawn 100,000 confirm")
    page.get_by_role("option").filter(has_text="confirm seed 103").first.click()
    expect(page.locator(".trial-name")).to_have_count(1)
    expect(page.locator(".trial-name")).to_contain_text("LAMB-LAWN, batch 100,000")


def test_epochs_move_together_and_stay_when_results_come(browse: Browse) -> None:
    source = studied()
    site = browse(source)
    page = site.open(address(search(source, 0, 8), search(source, 1, 8)))
    drag(page, "#dynamics-loss")
    zoomed = x_range(page, "#dynamics-loss")
    assert zoomed[0] > 3
    for name in FIGURES:
        assert x_range(page, f"#dynamics-{name}") == zoomed, name
    for row in (search(source, 0, 8), search(source, 1, 8)):
        source.series[row.key] = {name: values * 1.5 for name, values in source.series[row.key].items()}
    source.rows.append(source.rows.pop(0))  # the ledger changes, so every figure is redrawn
    site.until("document.querySelector('#dynamics-loss-summary').textContent.length > 0")
    page.locator("#toggle").click()
    page.wait_for_timeout(2500)
    for name in FIGURES:
        assert x_range(page, f"#dynamics-{name}") == zoomed, name
    assert x_range(page, "#dynamics-reliability") != zoomed


def test_vertical_axes_become_logarithmic(browse: Browse) -> None:
    source = studied()
    site = browse(source)
    page = site.open(address(search(source, 0, 8)))
    page.get_by_text("log", exact=True).click()
    site.until("document.querySelector('#dynamics-loss .js-plotly-plot')._fullLayout.yaxis.type === 'log'")
    assert "scale=log" in page.url


def test_a_damaged_curve_hides_no_other(browse: Browse) -> None:
    source = studied()
    source.broken = search(source, 0, 8).key
    page = browse(source).open(address(search(source, 0, 8), search(source, 1, 8)))
    expect(page.locator("#dynamics-trials")).to_contain_text(f"The curves of trial {source.broken} cannot be read")
    expect(page.locator("#dynamics-loss .scatterlayer .trace").first).to_be_attached()
    expect(page.locator(".failure")).to_have_count(0)


def test_only_damaged_curves_show_so_and_the_rest_of_the_page_stays(browse: Browse) -> None:
    source = studied()
    source.broken = search(source, 0, 8).key
    page = browse(source).open(address(search(source, 0, 8)))
    expect(page.locator("#dynamics-loss")).to_contain_text("not recorded")
    expect(page.locator("#dynamics-reliability .main-svg").first).to_be_visible()


def test_an_unknown_trial_is_named(browse: Browse) -> None:
    page = browse(studied()).open("/dynamics?space=digits&trial=%3Cb%3Enone")
    expect(page.locator("#dynamics-trials")).to_contain_text("There is no trial '<b>none' in this space.")
    expect(page.locator("#dynamics-loss")).to_contain_text("No trial is selected.")


def test_trials_without_bins_show_not_recorded(browse: Browse) -> None:
    source = studied()
    source.rows = [without_bins(row) for row in source.rows]
    page = browse(source).open(address(search(source, 0, 8)))
    expect(page.locator("#dynamics-reliability")).to_contain_text("Not recorded for these trials.")


def without_bins(row: TrialRow) -> TrialRow:
    kept = {name: value for name, value in row.summary.items() if not name.startswith("calibration/")}
    return TrialRow(**(vars(row) | {"summary": kept}))


def test_ranking_tasks_have_no_reliability(browse: Browse) -> None:
    page = browse(demo_source(epochs=10)).open("/dynamics?space=movielens_100k")
    expect(page.locator("#dynamics-reliability")).to_contain_text("there is nothing to calibrate")


def test_a_space_without_trials_shows_so(browse: Browse) -> None:
    page = browse(MemorySource([make_cell()])).open("/dynamics?space=digits")
    expect(page.locator("#dynamics-trials")).to_contain_text("No trial of this space has started.")


def test_it_fits_every_screen(browse: Browse) -> None:
    source = studied()
    site = browse(source)
    site.open(address(search(source, 0, 8), search(source, 1, 8)))
    assert not site.overflowing()
