"""The tuning curve's page in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from lawn_tune.words import fixed
from tests.helpers.browser import Browse
from tests.helpers.memory_source import MemorySource, demo_source, make_cell
from tests.helpers.studied import studied


def test_it_shows_both_sides_their_costs_and_the_definition_also_by_its_former_address(browse: Browse) -> None:
    site = browse(studied())
    page = site.open("/budget?space=digits&against=time")
    assert page.url.endswith("/tuning-curve?space=digits&against=time")
    title = "document.querySelector('#tuning-expected .xtitle')?.textContent.startsWith"
    site.until(f"{title}('Device time')")
    page.get_by_text("grid points", exact=True).first.click()
    site.until(f"{title}('Random grid points')")
    assert "against" not in page.url
    expect(page.locator("#tuning-expected .legend .traces")).to_have_count(2)
    expect(page.locator("#tuning-expected-summary")).to_contain_text("of one random point is")
    expect(page.locator("#tuning-definition")).to_contain_text("C(N − r, k − 1) / C(N, k)")
    expect(page.locator("#tuning-costs tbody tr")).to_have_count(2)
    last = page.locator("#tuning-table tbody tr").last
    expect(last).to_contain_text(fixed(93.0, 2))  # all points give LAWN's winner


def test_a_pair_is_chosen(browse: Browse) -> None:
    site = browse(demo_source(epochs=10))
    page = site.open("/tuning-curve?space=movielens_100k&pair=lamb-lawn%3Alamb%2Fbs1000")
    expect(page.locator("#tuning-costs")).to_contain_text("LAMB-LAWN")
    page.go_back()


@pytest.mark.long
def test_nothing_to_draw_is_shown(browse: Browse) -> None:
    page = browse(MemorySource([make_cell("adam")])).open("/tuning-curve?space=digits")
    expect(page.locator("#tuning-expected")).to_contain_text("no pair of a base optimizer")
    pair = MemorySource([make_cell("adam"), make_cell("adam-lawn")])
    page = browse(pair).open("/tuning-curve?space=digits")
    expect(page.locator("#tuning-expected")).to_contain_text("No point of either grid is complete yet.")
