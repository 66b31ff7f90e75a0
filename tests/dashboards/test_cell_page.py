"""The Cell page in a real browser: points and rows lead to dynamics, the table sorts, filters and exports safely."""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from lawn_tune.cells import Cell
from tests.helpers.browser import NARROW, Browse, drag, x_range
from tests.helpers.memory_source import MemorySource, make_cell, search_rows
from tests.helpers.studied import EVIL, studied

pytestmark = pytest.mark.long

LAWN = "/cell?space=digits&cell=digits%2Fadam-lawn%2Fbs64"
GRID = "#cell-trials .ag-center-cols-container"


def shown_trials(url: str) -> list[str]:
    assert urlsplit(url).path == "/dynamics"
    return parse_qs(urlsplit(url).query)["trial"]


def keys(cell: Cell) -> list[str]:
    return [trial.key for trial in cell.search_trials]


def middle_of(page: Page, selector: str) -> tuple[float, float]:
    place = page.locator(selector).first.bounding_box()
    assert place is not None
    return place["x"] + place["width"] / 2, place["y"] + place["height"] / 2


def test_it_shows_the_winner_the_edge_and_what_to_add(browse: Browse) -> None:
    page = browse(studied()).open(LAWN)
    expect(page.locator("#cell-winner")).to_contain_text("93.00 %")
    expect(page.locator("#cell-winner")).to_contain_text("92.00 ± 0.29")
    edge = page.locator("#cell-edge")
    expect(edge).to_contain_text("peak_lr = 0.01 is the highest of its 3 levels")
    expect(edge.locator("pre")).to_have_text(
        "[optimizers.adam-lawn]\npeak_lr = [0.001, 0.003, 0.01, 0.03]\nfree_epochs = [0, 1, 3, 9]"
    )
    for card in ("grid", "sensitivity", "parallel", "best"):
        expect(page.locator(f"#cell-{card} .main-svg").first).to_be_visible()
        expect(page.locator(f"#cell-{card}-summary")).not_to_be_empty()


def test_groups_of_lines_are_hidden_by_the_legend_and_brushed_by_boxes(browse: Browse) -> None:
    site = browse(studied())
    page = site.open(LAWN)
    height, traces = site.drawn("cell-parallel")
    assert height > 400
    site.hide_first("cell-parallel")
    assert site.drawn("cell-parallel") == (height, traces - 1)
    place = page.locator("#cell-parallel .nsewdrag").bounding_box()
    assert place is not None
    brushed = page.locator("#cell-parallel .legendtext", has_text="brushed")
    for axis, count in ((0, 2), (1, 1)):  # the upper third of the learning rates, then of the free epochs
        x = place["x"] + place["width"] * (0.15 + axis) / 2.3
        page.mouse.move(x - 15, place["y"] + 2)
        page.mouse.down()
        page.mouse.move(x + 15, place["y"] + 0.3 * place["height"], steps=6)
        page.mouse.up()
        expect(brushed).to_have_text(f"brushed ({count})")


def test_choosing_a_cell_changes_every_card_and_the_address(browse: Browse) -> None:
    site = browse(studied())
    page = site.open("/cell?space=digits")
    expect(page.locator("#cell-winner")).to_contain_text("93.00 %")  # it opens on LAWN
    page.get_by_text("Adam, batch 64", exact=True).click()
    expect(page.locator("#cell-winner")).to_contain_text("92.00 %")
    assert "cell=digits%2Fadam%2Fbs64" in page.url
    expect(page.locator("#cell-trials .ag-header-cell[col-id=weight_decay]")).to_be_visible()
    expect(page.locator("#cell-trials .ag-header-cell[col-id=free_epochs]")).to_have_count(0)
    page.go_back()
    expect(page.locator("#cell-winner")).to_contain_text("93.00 %")


def test_a_click_on_a_place_of_the_grid_opens_its_trial(browse: Browse) -> None:
    source = studied()
    site = browse(source)
    page = site.open(LAWN)
    x, y = middle_of(page, "#cell-grid .nsewdrag")
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    expect(page.get_by_role("heading", level=1)).to_have_text("Dynamics")
    site.settled()
    assert shown_trials(page.url) == [keys(source.planned[1])[4]]


def test_the_table_sorts_filters_and_leads_to_trials(browse: Browse) -> None:
    source = studied()
    site = browse(source)
    page = site.open(LAWN)
    heading = page.locator("#cell-trials .ag-header-cell[col-id=validation] .ag-header-cell-label")
    heading.click()
    heading.click()
    expect(page.locator(f"{GRID} .ag-row[row-index='0'] [col-id=validation]")).to_have_text("93.00")
    page.get_by_label("Search Trials").fill("diverged")
    expect(page.locator(f"{GRID} .ag-row")).to_have_count(1)
    page.locator("#cell-trials .ag-row[row-index='0'] a").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Trial")
    site.settled()
    facts = page.locator("#trial-facts")
    for text in (keys(source.planned[1])[6], "diverged", "search seed 0", "never resumed"):
        expect(facts).to_contain_text(text)
    expect(page.locator("#trial-provenance")).to_contain_text("2026-11-24T05:06:00")
    expect(page.locator("#trial-norm .scatterlayer .trace").first).to_be_attached()
    expect(page.locator("#trial-error")).to_be_hidden()
    failed = next(row for row in source.rows if row.outcome == "failed")
    page = site.open(f"/trial?space=digits&trial={failed.key}")
    expect(page.locator("#trial-error")).to_contain_text(EVIL)
    expect(page.locator("#trial-error img")).to_have_count(0)


def test_ticked_trials_are_compared(browse: Browse) -> None:
    site = browse(studied())
    page = site.open(LAWN)
    for i in (0, 3):
        page.locator(f"#cell-trials .ag-row[row-index='{i}'] input[type=checkbox]").check()
    expect(page.locator("#cell-trials-open")).to_have_text("Compare 2")
    page.locator("#cell-trials-open").click()
    expect(page.locator(".trial-name")).to_have_count(2)
    assert len(shown_trials(page.url)) == 2


def test_the_table_is_saved_and_searched_and_computes_nothing(browse: Browse, tmp_path: Path) -> None:
    source = studied()
    page = browse(source).open(LAWN)
    with page.expect_download() as started:
        page.get_by_role("button", name="Save Trials as CSV").click()
    path = tmp_path / "trials.csv"
    started.value.save_as(path)
    assert started.value.suggested_filename == "digits-adam-lawn-bs64-cell-trials.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["trial"] for row in rows] == [r.key for r in source.rows if r.cell == "digits/adam-lawn/bs64"]
    (failed,) = [row for row in rows if row["outcome"] == "failed"]
    assert failed["error"] == f"'{EVIL}"
    assert float(rows[0]["validation"]) == 81.0
    assert page.evaluate("lawn.csvField(91.21000000000001)") == "91.21"
    shown = page.locator(f"{GRID} .ag-row")
    page.get_by_label("Search Trials").fill("HYPERLINK")
    expect(shown).to_have_count(1)
    expect(page.locator("#cell-trials img")).to_have_count(0)
    same = sum(row["peak_lr"] == "0.001" for row in rows)
    for spelling in ("0.001", "1e-3", ".001"):
        page.get_by_label("Search Trials").fill(spelling)
        expect(shown).to_have_count(same)


def test_a_cell_without_trials_shows_so(browse: Browse) -> None:
    page = browse(MemorySource([make_cell()])).open("/cell?space=digits")
    expect(page.locator("#cell-trials")).to_contain_text("No trial of this cell has started.")
    expect(page.locator("#cell-best")).to_contain_text("No point of this grid has finished.")
    expect(page.locator("#cell-edge")).to_contain_text("There is no winner yet")


def test_a_cell_where_everything_diverged_shows_so(browse: Browse) -> None:
    cell = make_cell()
    page = browse(MemorySource([cell], search_rows(cell, ["diverged"] * 9))).open("/cell?space=digits")
    expect(page.locator("#cell-winner")).to_contain_text("every point of the grid diverged")
    expect(page.locator("#cell-parallel-summary")).to_contain_text("9 diverged")


def test_it_fits_every_screen_and_figures_let_a_finger_scroll(browse: Browse) -> None:
    site = browse(studied())
    site.open(LAWN)
    assert not site.overflowing()
    site.page.set_viewport_size(NARROW)
    for card in ("grid", "sensitivity", "best", "parallel"):
        assert site.swiped(f"#cell-{card} .js-plotly-plot") > 150


def test_zoom_order_filter_and_search_survive_new_results_and_a_copied_link(browse: Browse) -> None:
    source = studied()
    late = [row for row in source.rows if row.cell.endswith("adam-lawn/bs64") and row.phase == "search"][-1]
    source.rows.remove(late)
    site = browse(source)
    page = site.open(LAWN)
    drag(page, "#cell-best")
    zoomed = x_range(page, "#cell-best")
    source.rows.append(late)
    site.until("document.querySelector('#cell-best-summary').textContent.startsWith('8 of 9')")
    site.settled()
    assert x_range(page, "#cell-best") == zoomed
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    heading = page.locator("#cell-trials .ag-header-cell[col-id=validation] .ag-header-cell-label")
    heading.click()
    heading.click()
    page.get_by_label("Search Trials").fill("complete")
    first = page.locator(f"{GRID} .ag-row[row-index='0'] [col-id=validation]")
    expect(first).to_have_text("93.00")
    site.until("location.search.includes('search=')")
    model = "{ phase: { filterType: 'text', type: 'contains', filter: 'search' } }"
    page.evaluate(f"dash_ag_grid.getApi('cell-trials-grid').setFilterModel({model})")
    site.until("location.search.includes('rows=')")
    assert not [text for text in asked if "cell-" in text]
    page.goto(page.url)  # a copied link shows the same
    site.settled()
    expect(first).to_have_text("93.00")
    expect(page.get_by_label("Search Trials")).to_have_value("complete")
    expect(page.locator(f"{GRID} .ag-row [col-id=phase]", has_text="confirm")).to_have_count(0)
    assert x_range(page, "#cell-best") == pytest.approx(zoomed, abs=0.01)
    page.get_by_text("Adam, batch 64", exact=True).click()
    site.until("!location.search.includes('zoom=')")  # of another cell's figure
