"""The tuning curve's page in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from lawn_tune.words import fixed
from tests.helpers.browser import NARROW, Browse
from tests.helpers.memory_source import MemorySource, demo_source, make_cell
from tests.helpers.studied import studied


def test_it_shows_both_rivals_their_costs_and_the_definition(browse: Browse) -> None:
    page = browse(studied()).open("/tuning-curve?space=digits")
    card = page.locator("#tuning-expected")
    expect(card.locator(".legend .traces")).to_have_count(2)
    expect(page.locator("#tuning-expected-summary")).to_contain_text("of one random point is")
    expect(page.locator("#tuning-definition")).to_contain_text("C(N − r, k − 1) / C(N, k)")
    expect(page.locator("#tuning-costs tbody tr")).to_have_count(2)
    last = page.locator("#tuning-table tbody tr").last
    expect(last).to_contain_text(fixed(93.0, 2))  # all points give LAWN's winner


def test_the_axis_becomes_time_and_the_address_keeps_it(browse: Browse) -> None:
    site = browse(studied())
    page = site.open("/tuning-curve?space=digits")
    page.get_by_text("device time", exact=True).click()
    site.until("document.querySelector('#tuning-expected .xtitle')?.textContent.startsWith('Device time')")
    assert "against=time" in page.url


def test_a_pair_is_chosen(browse: Browse) -> None:
    site = browse(demo_source(epochs=10))
    page = site.open("/tuning-curve?space=movielens_100k&pair=lamb-lawn%3Alamb%2Fbs1000")
    expect(page.locator("#tuning-costs")).to_contain_text("LAMB-LAWN")
    page.go_back()


def test_nothing_to_draw_is_shown(browse: Browse) -> None:
    page = browse(MemorySource([make_cell("adam")])).open("/tuning-curve?space=digits")
    expect(page.locator("#tuning-expected")).to_contain_text("no pair of a base optimizer")
    pair = MemorySource([make_cell("adam"), make_cell("adam-lawn")])
    page = browse(pair).open("/tuning-curve?space=digits")
    expect(page.locator("#tuning-expected")).to_contain_text("No point of either grid is complete yet.")


def test_its_former_address_leads_to_it(browse: Browse) -> None:
    page = browse(studied()).open("/budget?space=digits&against=time")
    assert page.url.endswith("/tuning-curve?space=digits&against=time")


def test_it_fits_a_small_screen(browse: Browse) -> None:
    site = browse(studied(), viewport=NARROW, dark=True)
    site.open("/tuning-curve?space=digits")
    assert site.width() == NARROW["width"]
