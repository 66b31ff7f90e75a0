"""The Compare page, in a real browser: its texts, its filters, its address, and every state of a ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from dashboards.figures.caveats import caveat
from dashboards.web.pages.comparison import PAGE, PATH, plain_answer
from lawn_tune.cells import Cell, CellName
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import Comparison, PairResult
from lawn_tune.comparison.next_steps import launch_command
from lawn_tune.comparison.verdicts import headline, sentence, verdict_text
from lawn_tune.results import Outcome
from lawn_tune.words import signed
from tests.helpers.browser import Browse, Site
from tests.helpers.memory_source import (
    MemorySource,
    confirm_rows,
    demo_source,
    make_cell,
    search_rows,
    with_protocol,
)
from tests.helpers.pair_source import pair_source

EVIL = "<img src=x onerror=alert(1)>"
SPACE = "movielens_100k"
PAIR_CARDS = ("grid-challenger", "grid-baseline", "pair-curves", "pair-reliability")


@pytest.fixture(scope="module")
def demo() -> MemorySource:
    return demo_source(epochs=40)


def searched_only(source: MemorySource) -> MemorySource:
    rows = [row for row in source.rows if row.phase == "search"]
    return MemorySource(planned=source.planned, rows=rows, series=source.series)


def opened(browse: Browse, source: MemorySource, query: str = "", **options: object) -> Site:
    site = browse(source, pages=(PAGE,), **options)
    site.open(f"{PATH}?space={source.spaces()[0]}{query}")
    return site


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def verdicts(page: Page) -> list[str]:
    return page.locator("#compare-answer .verdict-words > p:first-child").all_text_contents()


def summary(page: Page, card: str) -> str:
    return page.locator(f"#{card}-summary").text_content() or ""


# --- the answer ------------------------------------------------------------------------------------------------------


def test_the_page_shows_of_every_pair_what_compare_shows(browse: Browse, demo: MemorySource) -> None:
    page = opened(browse, demo).page
    comparison = compare_space(demo, SPACE)
    expect(page.locator(".headline")).to_have_text(headline(comparison))
    assert verdicts(page) == [sentence(pair) for pair in comparison.pairs]
    badges = page.locator("#compare-answer .badge").all_text_contents()
    assert badges == [verdict_text(pair) for pair in comparison.pairs]
    row, words = page.locator(".verdict > details > summary").first, page.locator(".verdict-words").first
    expect(words).to_be_hidden()
    row.focus()
    page.keyboard.press("Enter")
    expect(words).to_be_visible()
    cells = [f"{SPACE}%2F{name}%2Fbs1000" for name in ("adam-lawn", "adam")]
    links = page.locator(".verdict .links").first.get_by_role("link")
    assert [link.get_attribute("href") for link in links.all()] == [
        f"{PATH}?space={SPACE}&base=adam&batch=1000&pair={cells[0]}",
        f"/dynamics?space={SPACE}&trial={cells[0]}&trial={cells[1]}",
        *(f"/cell?space={SPACE}&cell={cell}" for cell in cells),
    ]
    confirm_runs_are_in_the_opened_row(page, comparison)
    for card in PAIR_CARDS:
        expect(page.locator(f"#compare-{card}")).to_be_hidden()
    figures_have_their_numbers_in_words(page, comparison)
    values_stand_next_to_the_papers(page, comparison)
    a_profile_over_too_few_tasks_is_not_drawn(page)


def test_seeds_that_were_not_planned_first_are_shown_as_such(browse: Browse, demo: MemorySource) -> None:
    def first(cell: Cell) -> Cell:
        seeds = cell.protocol.confirm_seeds
        return replace(cell, first_seeds=(*seeds, 990) if cell.name.batch_size == 1_000 else seeds[:-1])

    page = opened(browse, replace(demo, planned=list(map(first, demo.planned)))).page
    answers = page.locator("#compare-answer .verdict")
    expect(answers.nth(0).locator(".unusual")).to_contain_text("interim")
    expect(answers.nth(1).locator(".unusual")).to_contain_text("seeds added later")
    answers.nth(1).locator("summary").first.click()
    seeds = answers.nth(1).locator("tbody tr td:first-child").all_text_contents()
    assert [seed for seed in seeds if "added later" in seed] == [seeds[-1]]


def confirm_runs_are_in_the_opened_row(page: Page, comparison: Comparison) -> None:
    pair = comparison.pairs[0]
    sides = (pair.challenger.confirmed, pair.baseline.confirmed)
    table = page.locator(".verdict .opened table").first
    for row, seed in zip(table.locator("tbody tr").all(), sides[0].values if sides[0] else (), strict=True):
        links = [link.get_attribute("href") for link in row.get_by_role("link").all()]
        assert links == [f"/trial?space={SPACE}&trial={side.keys[seed]}" for side in sides if side]
        values = [side.values[seed] for side in sides if side]
        expect(row).to_contain_text(f"{values[0]:.2f}{values[1]:.2f}{signed(values[0] - values[1], 2)}")


def figures_have_their_numbers_in_words(page: Page, comparison: Comparison) -> None:
    means = [pair.difference.mean for pair in comparison.pairs if pair.difference]
    text = summary(page, "compare-forest").replace("−", "-")
    assert f"{min(means):+.2f} to {max(means):+.2f} points" in text
    assert "Paper: 300 or 500 epochs" in summary(page, "compare-batches")
    for name in ("Paired differences", "Over batch sizes"):
        figure = page.get_by_role("figure", name=name)
        assert figure.get_attribute("aria-describedby")


def values_stand_next_to_the_papers(page: Page, comparison: Comparison) -> None:
    result = comparison.cell("adam-lawn", 100_000)
    assert result is not None
    assert result.confirmed is not None
    row = page.locator("#compare-tables tbody tr", has_text="Adam-LAWN")
    expect(row.locator("td").nth(2)).to_contain_text(f"{result.confirmed.mean:.2f}")
    expect(row.locator("td").nth(2).locator(".paper")).to_have_text("66.24")
    link = row.locator("td").nth(2).get_by_role("link")
    assert link.get_attribute("href") == f"/cell?space={SPACE}&cell={SPACE}%2Fadam-lawn%2Fbs100000"
    expect(page.locator("#compare-pairs tbody tr")).to_have_count(6)
    page.get_by_text("caveats of this table").click()
    expect(page.locator("#compare-tables dl.footnotes")).to_contain_text("edge of grid")


def a_profile_over_too_few_tasks_is_not_drawn(page: Page) -> None:
    expect(page.locator("#compare-profile")).to_contain_text("A profile of 2 tasks is not informative")
    expect(page.locator("#compare-profile .graph")).to_be_hidden()
    expect(page.locator("#compare-profile [data-export]").first).to_be_hidden()
    expect(page.locator("#compare-forest [data-export]").first).to_be_visible()


def test_a_newcomer_finds_the_answer_at_one_batch_size(browse: Browse, demo: MemorySource) -> None:
    site = opened(browse, demo, "&base=adam&batch=100000")
    page = site.page
    (pair,) = [p for p in compare_space(demo, SPACE).pairs if str(p.baseline.cell.name).endswith("adam/bs100000")]
    assert pair.difference is not None
    row = page.locator("#compare-answer .verdict")
    expect(row).to_have_count(1)
    for text in ("Adam-LAWN", "Adam", "batch 100,000", f"{pair.difference.mean:+.2f}", verdict_text(pair)):
        expect(row).to_contain_text(text)
    expect(row).to_contain_text("n = 10 seeds × 943 test examples")
    expect(row).to_contain_text("The paper prints +3.04 points")
    for card in PAIR_CARDS[:3]:
        expect(page.locator(f"#compare-{card} .main-svg").first).to_be_visible()
    expect(page.locator("#compare-grid-baseline-summary")).to_contain_text("Adam, batch 100,000: Best validation HR@10")
    expect(page.locator("#compare-pair-reliability")).to_contain_text("ranks candidates")
    caveats_are_chips_that_open_by_keyboard(page, pair)
    hovering_a_pair_shows_its_sentence(site)


def caveats_are_chips_that_open_by_keyboard(page: Page, pair: PairResult) -> None:
    flags = {caveat(note.flag, pair.challenger) for note in (*pair.notes, *pair.baseline.notes, *pair.challenger.notes)}
    chips = page.locator("#compare-answer .chip summary")
    assert set(chips.all_text_contents()) == flags
    expect(page.locator(".verdict-words")).to_be_visible()  # the only pair is open
    text = page.locator("#compare-answer .chip", has_text="diverged").first.locator("li").first
    expect(text).to_be_hidden()
    chip = page.locator("#compare-answer .chip summary", has_text="diverged").first
    chip.focus()
    page.keyboard.press("Enter")
    expect(text).to_be_visible()
    expect(text).to_contain_text("of the grid diverged")


def hovering_a_pair_shows_its_sentence(site: Site) -> None:
    page = site.page
    site.until("document.querySelector('#compare-forest .js-plotly-plot .xtick text')")
    page.evaluate(
        """() => { const plot = document.querySelector('#compare-forest .js-plotly-plot');
        const i = plot.data.findIndex((t) => t.error_x); Plotly.Fx.hover(plot, [{curveNumber: i, pointNumber: 0}]); }"""
    )
    hover = page.locator("#compare-forest .hoverlayer")
    expect(hover).to_contain_text("Adam-LAWN is")
    expect(hover).to_contain_text("95 % interval for all 6 pairs")
    expect(hover).to_contain_text("The paper prints +3.04")


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (3.0, r"^Yes, on this test: LAWN is 3\.00 points of HR@10 ahead; the difference lies between \+"),
        (0.003, r"^Yes, on this test: LAWN is 0\.003 points of HR@10 ahead; the difference lies between \+0\.00[1-9]"),
        (-3.0, r"^No: weight decay is 3\.00 points of HR@10 ahead; the difference lies between −"),
        (
            0.0,
            r"^Undecided: (LAWN|weight decay) is \d\.\d\d points of HR@10 ahead in these runs, but any ",
        ),
    ],
)
def test_one_pair_is_answered_yes_no_or_undecided(gain: float, text: str) -> None:
    cells = [make_cell(name, dataset="movielens-100k") for name in ("adam", "adam-lawn")]
    cells = [with_protocol(cell, metric="hr@10") for cell in cells]
    source = MemorySource(cells)
    for cell, more in zip(cells, (0.0, gain), strict=True):
        source.rows += search_rows(cell, [60.0, 61.0, 62.0, 63.0, 66.0, 64.0, 63.0, 62.0, 61.0])
        spread = 0.1 if gain else 0.0  # where all seeds agree there is no interval
        source.rows += confirm_rows(
            cell, cell.grid.point(4), [65.0 + more, 66.0 + more * (1 + spread), 67.0 + more * (1 - spread)]
        )
    if not gain:
        source.rows[-1] = replace(source.rows[-1], summary={"last/test/hr@10": 67.3})
    answer = plain_answer(compare_space(source, "digits"))
    assert answer is not None
    assert re.search(text, answer), answer
    assert plain_answer(compare_space(demo_source(epochs=5, users=50), SPACE)) is None


@pytest.mark.parametrize(
    ("hits", "text"),
    [
        ([152, 151, 150], r"^Undecided: the two are equal in these runs, but any difference from "),
        ([190, 191, "diverged"], r"1 of 3 confirm runs of Adam-LAWN diverged, and the difference leaves them out\.$"),
    ],
)
def test_an_answer_says_what_its_runs_lack(hits: list[int | Outcome | None], text: str) -> None:
    answer = plain_answer(compare_space(pair_source([150, 151, 152], hits), "digits"))
    assert answer is not None
    assert re.search(text, answer), answer


@pytest.mark.long
def test_what_filters_hide_is_counted(browse: Browse, demo: MemorySource) -> None:
    site = opened(browse, demo)
    expect(site.page.locator("#compare-answer")).to_contain_text("all 6 pairs of the space")
    page = site.open(f"{PATH}?space={SPACE}&base=adam")
    expect(page.locator("#compare-answer")).to_contain_text("3 pairs hidden by the filters.")
    expect(page.locator("#compare-answer")).to_contain_text("all 6 pairs of the space")


# --- filters and address ---------------------------------------------------------------------------------------------


def test_a_filter_changes_sentences_figures_and_the_address(browse: Browse, demo: MemorySource) -> None:
    site = opened(browse, demo)
    page = site.page
    assert summary(page, "compare-forest").startswith("Of 6 pairs")
    choose(page, "Base optimizer", "LAMB")
    expect(page.locator("#compare-answer .verdict")).to_have_count(3)
    expect(page.locator("#compare-forest-summary")).to_contain_text("Of 3 pairs")
    expect(page.locator("#compare-batches-summary")).not_to_contain_text("Adam")
    assert page.url == f"{site.address}{PATH}?space={SPACE}&base=lamb"
    page.keyboard.press("Escape")
    choose(page, "Batch sizes", "1,000")
    expect(page.locator("#compare-answer .verdict")).to_have_count(1)
    expect(page.locator("#compare-forest-summary")).to_contain_text("One pair: ")
    assert page.url.endswith("&base=lamb&batch=1000")
    page.go_back()
    expect(page.locator("#compare-answer .verdict")).to_have_count(3)


@pytest.mark.long
def test_a_copied_address_shows_the_same_view(browse: Browse, demo: MemorySource) -> None:
    site = opened(browse, demo)
    page = site.page
    choose(page, "Base optimizer", "Adam")
    page.keyboard.press("Escape")
    choose(page, "Metric", "HR@10, best epoch")
    page.locator("label", has_text="search, validation").click()
    choose(page, "Table", "Paper, Table 4: Test HR@10 on MovieLens and Pinterest")
    expect(page.locator("#compare-tables caption")).to_contain_text("Table 4")
    expect(page.locator("#compare-batches .ytitle")).to_contain_text("Validation HR@10, best epoch")
    there = page.context.new_page()
    there.goto(page.url)
    expect(there.locator("#compare-tables caption")).to_contain_text("Table 4")
    expect(there.locator("#compare-batches .ytitle")).to_contain_text("Validation HR@10, best epoch")
    for place in ("#compare-answer", "#compare-forest-summary", "#compare-batches-summary", "#compare-tables table"):
        expect(there.locator(place)).to_have_text(page.locator(place).text_content() or "")


@pytest.mark.long
def test_nonsense_in_the_address_is_ignored(browse: Browse, demo: MemorySource) -> None:
    page = opened(browse, demo, f"&metric={EVIL}&phase=x&table=99&scope=every&tau=1").page
    assert summary(page, "compare-forest").startswith("Of 6 pairs")
    expect(page.locator("#compare-tables caption")).to_have_text(f"{SPACE}: test HR@10 (%)")
    page.goto(f"{page.url.partition('?')[0]}?space={SPACE}&batch=7")
    expect(page.locator("#compare-answer")).to_contain_text("No cell of this space fits the filters.")


# --- figures and tables ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_click_on_the_legend_takes_one_method_away_and_no_more(browse: Browse, demo: MemorySource) -> None:
    site = opened(browse, demo, "&base=adam")
    height, traces = site.drawn("compare-batches")
    assert height > 400
    site.hide_first("compare-batches")
    assert site.drawn("compare-batches") == (height, traces - 1)


@pytest.mark.long
def test_every_space_together_makes_a_longer_forest_and_a_profile(browse: Browse) -> None:
    source, other = demo_source(epochs=40), demo_source(space="zwei", epochs=40)
    joined = MemorySource(
        planned=source.planned + other.planned,
        rows=source.rows + other.rows,
        outcomes=source.outcomes | other.outcomes,
        series=source.series | other.series,
    )
    page = opened(browse, joined).page
    page.locator("label", has_text="every space").click()
    expect(page.locator("#compare-forest-summary")).to_contain_text("Of 12 pairs")
    expect(page.locator("#compare-profile-summary")).to_contain_text("Over 4 tasks")
    expect(page.locator("#compare-answer .verdict")).to_have_count(6)
    assert page.url.endswith("&scope=every")


# --- states of a ledger ----------------------------------------------------------------------------------------------


def test_a_search_alone_gives_no_verdict_and_marks_its_values(browse: Browse, demo: MemorySource) -> None:
    page = opened(browse, searched_only(demo)).page
    expect(page.locator(".headline")).to_contain_text("onfirm runs are missing in 6 of 6")
    assert all("no verdict yet" in text for text in verdicts(page))
    expect(page.locator("#compare-answer .big").first).to_contain_text("of searches on validation, unconfirmed")
    assert "there is no verdict in 6" in summary(page, "compare-forest")
    assert "12 open markers: not confirmed" in summary(page, "compare-batches")
    assert page.locator("#compare-tables .ours.unsure").count() == 12


def test_a_space_without_results_shows_how_to_get_them(browse: Browse) -> None:
    source = MemorySource(planned=[make_cell("adam"), make_cell("adam-lawn")])
    page = opened(browse, source).page
    expect(page.locator("#compare-answer")).to_contain_text("nothing can be compared")
    expect(page.locator("#compare-answer code")).to_have_text(launch_command(source.planned))
    expect(page.locator("#compare-forest")).to_contain_text("nothing can be compared")


@pytest.mark.long
def test_a_space_without_a_pair_shows_so(browse: Browse) -> None:
    cell = make_cell("adam")
    source = MemorySource(planned=[cell], rows=search_rows(cell, [90.0] * 9))
    page = opened(browse, source).page
    expect(page.locator("#compare-answer")).to_contain_text("no pair of a base optimizer and its LAWN variant")
    expect(page.locator("#compare-tables")).to_contain_text("90.00 (search, 1)")
    expect(page.locator("#compare-batches-summary")).to_contain_text("The paper prints no value")


@pytest.mark.long
def test_a_finished_confirm_run_appears_without_a_reload(browse: Browse) -> None:
    whole = demo_source(epochs=40)
    source = searched_only(whole)
    page = opened(browse, source, "&base=adam&batch=1000").page
    expect(page.locator("#compare-answer .badge")).to_have_text("not confirmed yet")
    source.outcomes = whole.outcomes
    source.rows = whole.rows
    (pair, *_) = compare_space(whole, SPACE).pairs
    expect(page.locator("#compare-answer .badge")).to_have_text(pair.verdict.value)
    assert verdicts(page) == [sentence(pair)]


@pytest.mark.long
def test_a_broken_comparison_is_shown_and_nothing_else_breaks(browse: Browse, demo: MemorySource) -> None:
    source = Broken(planned=demo.planned, rows=demo.rows)
    page = opened(browse, source).page
    for card in ("answer", "forest", "tables"):
        expect(page.locator(f"#compare-{card}").get_by_role("alert")).to_contain_text("cannot be shown")
    expect(page.get_by_label("Batch sizes", exact=True).first).to_be_visible()
    assert "Traceback" not in page.content()


class Broken(MemorySource):
    def examples(self, keys: Iterable[str]) -> dict[str, object]:  # type: ignore[override]
        raise OSError("the disk is gone")


@pytest.mark.long
def test_hostile_names_are_only_text(browse: Browse, demo: MemorySource) -> None:
    source = renamed(demo, EVIL)
    other = renamed(demo, "other")
    both = MemorySource(planned=source.planned + other.planned, rows=source.rows + other.rows)
    site = browse(both, pages=(PAGE,))
    page = site.page
    page.on("dialog", lambda dialog: site.problems.append("a script of a name ran"))
    site.open(f"{PATH}?space=other&scope=every")
    expect(page.locator("#compare-forest .ytick", has_text="<img src=x oner")).to_have_count(1)
    site.open(f"{PATH}?space={EVIL}")
    expect(page.locator("#compare-tables caption")).to_contain_text(EVIL)
    assert page.locator("img[src=x]").count() == 0


def renamed(source: MemorySource, space: str) -> MemorySource:
    """The same ledger under another space's name."""
    planned = [replace(c, name=CellName(space, c.name.optimizer, c.name.batch_size)) for c in source.planned]
    rows = [replace(row, cell=f"{space}/{row.cell.partition('/')[2]}") for row in source.rows]
    return MemorySource(planned=planned, rows=rows)


@pytest.mark.long
def test_no_table_makes_the_page_scroll_sideways(browse: Browse, demo: MemorySource) -> None:
    site = opened(browse, demo, "&table=5")
    expect(site.page.locator("#compare-tables caption")).to_contain_text("Table 5")
    assert not site.overflowing()
