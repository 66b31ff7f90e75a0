"""The landing page: what is stated is what `compare` states, and the forest is within the first screen."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from playwright.sync_api import expect

from dashboards.web.page import Empty, View
from dashboards.web.pages.verdict import decide, effect, question, todos
from dashboards.web.snapshot import Snapshots
from dashboards.widening import suggested
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import Verdict
from lawn_tune.comparison.next_steps import launch_command, next_steps
from lawn_tune.comparison.verdicts import overall_sentences
from lawn_tune.results import Outcome
from tests.helpers.browser import NARROW, WIDE, Browse
from tests.helpers.memory_source import MemorySource, demo_source
from tests.helpers.pair_source import pair_source
from tests.helpers.studied import studied

SPACE = "movielens_100k"


@pytest.fixture(scope="module")
def demo() -> MemorySource:
    """The demo's space with another one in its ledger."""
    source, other = demo_source(epochs=300), studied()
    source.planned = [replace(cell, about=("A study in memory",)) for cell in source.planned] + other.planned
    source.rows += other.rows
    return source


def test_the_answer_the_forest_and_the_spaces_at_both_sizes(browse: Browse, demo: MemorySource) -> None:
    comparison = compare_space(demo, SPACE)
    assert comparison.overall is not None
    site = browse(Snapshots(demo, storage="--storage sqlite:///my.db"))
    page = site.open(f"/?space={SPACE}")
    answer = page.locator("#verdict-answer")
    expect(page.locator("#verdict-details")).to_contain_text("A study in memory")
    for text in (question(comparison), *overall_sentences(comparison.overall), "678 of 696 trials"):
        expect(answer).to_contain_text(text)
    expect(page.locator("#verdict-forest .main-svg").first).to_be_visible()
    for viewport in (WIDE, NARROW):
        page.set_viewport_size(viewport)
        site.settled()
        place = page.locator("#verdict-forest .js-plotly-plot").bounding_box()
        assert place is not None
        assert place["y"] > 0
        assert place["y"] + place["height"] <= viewport["height"]
        assert site.width() == viewport["width"]
    steps = page.locator("#verdict-decide")
    cells = [result.cell for pair in comparison.pairs if sum(r.missing for r in pair.cells) for result in pair.cells]
    expect(steps).to_contain_text(f"{launch_command(cells)} --storage sqlite:///my.db")
    expect(steps.locator("pre")).to_have_text(suggested(comparison.cells))
    rows = page.locator("#verdict-spaces tbody tr")
    expect(rows).to_have_count(2)
    for text in (effect(comparison), "A study in memory", question(comparison)):
        expect(rows.nth(1)).to_contain_text(text)
    rows.nth(0).get_by_role("link").click()
    expect(answer).to_contain_text(question(compare_space(demo, "digits")))


@pytest.mark.parametrize(
    ("hits", "text"),
    [
        (["diverged"] * 3, "Every trial has a result, and no launch would decide the pairs that are open."),
        ([190, 191, 192], "Every pair is decided, and every trial has a result."),
    ],
)
def test_pairs_that_nothing_can_decide_are_not_called_decided(hits: list[int | Outcome | None], text: str) -> None:
    comparison = compare_space(pair_source([100, 101, 102], hits), "digits")
    found = decide(cast(View, SimpleNamespace(snapshot=SimpleNamespace(comparison=comparison))))
    assert found == Empty(text)


def test_every_open_pair_has_a_step_and_settled_ones_have_none(demo: MemorySource) -> None:
    comparison = compare_space(demo, SPACE)
    texts = {todo.text for todo in todos(comparison)}
    for pair in comparison.pairs:
        steps = next_steps(pair)
        assert bool(steps) == (pair.verdict in (Verdict.UNDECIDED, Verdict.PENDING))
        assert {step.text for step in steps if step.action != "continue"} <= texts
    assert len({todo.what for todo in todos(comparison)}) == len(todos(comparison))
    assert tomllib.loads(suggested(comparison.cells))
