"""The progress of a space: its numbers as invariants, and the page over a real ledger while a study trains."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect

from dashboards.web.snapshot import Snapshots
from dashboards.web.space_progress import SpaceProgress, space_progress
from lawn_tune.cells import Cell, Phase
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.next_steps import launch_command
from lawn_tune.ledger import Ledger, Owner, PackRow, open_ledger
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.browser import Browse
from tests.helpers.memory_source import confirm_rows, demo_source, make_cell, search_rows
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import Trial

OUTCOMES: tuple[Outcome, ...] = ("complete", "diverged", "failed", "running")
RUNNING: tuple[Outcome, ...] = ("running",) * 8


def progress(cells: Sequence[Cell], rows: Sequence[TrialRow], *, alive: bool = True) -> SpaceProgress:
    by_cell = {str(cell.name): [row for row in rows if row.cell == str(cell.name)] for cell in cells}
    return space_progress("digits", compare(cells, rows, {}).cells, by_cell, lambda cell: alive)


# --- numbers


@given(st.lists(st.sampled_from([*OUTCOMES, None]), min_size=9, max_size=9))
def test_counts_add_up_whatever_the_outcomes(outcomes: list[Outcome | None]) -> None:
    cell = make_cell("adam")
    known = [90.0 if outcome == "complete" else outcome or "failed" for outcome in outcomes]
    rows = [row for row, outcome in zip(search_rows(cell, known), outcomes, strict=True) if outcome]
    found = progress([cell], rows)
    [one] = found.cells
    assert one.counts.done + one.counts.running + one.counts.failed + one.counts.missing == one.counts.planned
    assert 0 <= one.share <= 1
    assert one.counts.done / one.counts.planned <= one.share + 1e-12
    assert sum(pack.trials for pack in found.running) == outcomes.count("running")
    assert sum(trouble.trials for trouble in found.troubles) == found.failed == outcomes.count("failed")
    assert found.left is None or found.left >= 0
    assert (one.left is None) == (not one.counts.done and one.counts.planned > 0)


def test_what_is_trained_has_nothing_left() -> None:
    cell = make_cell("adam")
    rows = search_rows(cell, [90.0, *[80.0] * 8])
    rows += confirm_rows(cell, cell.grid.point(0), [91.0, 92.0, 93.0])
    found = progress([cell], rows)
    assert (found.done, found.planned, found.share, found.left) == (12, 12, 1.0, 0.0)
    assert found.cells[0].value == "92.00 ± 0.58 test, 3 seeds"
    assert progress([cell], rows[:9]).cells[0].value == "90.00 validation, best so far"
    assert found.cells[0].edges == ("peak_lr", "weight_decay")


def test_the_time_left_is_the_missing_epochs_at_the_speed_so_far() -> None:
    cell = make_cell("adam")  # 20 epochs; 9 search trials and 3 confirm trials
    known: list[float | Outcome] = [90.0, 80.0, *RUNNING[:7]]
    rows = search_rows(cell, known)[:3]  # 2 s each
    rows[2] = replace(rows[2], epochs=5, pack="another")
    found = progress([cell], rows)
    assert found.left == pytest.approx((12 * 20 - 2 * 20 - 5) * 2.0 / 20)
    assert found.workers == 1
    assert found.eta == found.left
    assert found.share == pytest.approx((2 * 20 + 5) / (12 * 20))
    rows.append(replace(rows[2], key=cell.search_trials[3].key, pack="a third"))
    found = progress([cell], rows)
    assert found.eta == pytest.approx((found.left or 0) / 2)


def test_a_cell_without_a_result_borrows_the_speed_of_the_others() -> None:
    adam, lawn = make_cell("adam"), make_cell("adam-lawn")
    found = progress([adam, lawn], search_rows(adam, [90.0] * 9))
    assert found.cells[1].left == pytest.approx(12 * 2.0)
    assert progress([adam, lawn], []).left is None


def test_trials_without_a_driver_do_not_count_as_training() -> None:
    cell = make_cell("adam")
    known: list[float | Outcome] = [90.0, *RUNNING]
    rows = search_rows(cell, known)
    found = progress([cell], rows, alive=False)
    assert (found.workers, found.eta) == (0, None)
    assert [pack.alive for pack in found.running] == [False]


# --- the page


def pack_of(ledger: Ledger, cell: Cell, trials: Sequence[Trial], phase: Phase = "search") -> PackRow:
    [*_, pack] = ledger.record_packs(cell.name, phase, [trials])
    return ledger.begin(pack, trials)


def train(ledger: Ledger, pack: PackRow, epochs: Sequence[int]) -> None:
    for epoch in epochs:
        ledger.progress(pack, [EpochRecord(epoch=epoch, series={"validation/accuracy": [90.0] * len(pack.keys)})])


def finish(ledger: Ledger, pack: PackRow) -> None:
    outcomes = [
        TrialOutcome(
            key=key,
            outcome="complete",
            epochs=20,
            summary={"last/validation/accuracy": 90.0, "last/test/accuracy": 89.0, "seconds": 30.0},
            examples=b"\xf0",
            example_count=8,
        )
        for key in pack.keys
    ]
    ledger.finish(pack, outcomes, {"device": "cpu"})


@pytest.mark.long
def test_a_study_is_watched_from_launch_to_end_without_a_reload(browse: Browse, ledger_url: str) -> None:
    cell, owner = make_cell("adam", 64), Owner.current()
    with open_ledger(ledger_url) as ledger, open_ledger(ledger_url, create=False) as read:

        def drivers() -> dict[str, tuple[str, bool]]:
            return {str(name): (lease.owner, lease.active) for name, lease in read.leases().items()}

        site = browse(Snapshots(read, drivers))
        page = site.open("/progress")
        page.evaluate("window.unreloaded = true")
        expect(page.get_by_text("lawn-tune launch quickstart")).to_be_visible()

        ledger.register([cell])
        now = page.locator("#progress-now")
        expect(now).to_contain_text("of 12; 0 % of epochs")

        ledger.lease(cell.name, owner, 60)
        pack = pack_of(ledger, cell, cell.search_trials[:6])
        train(ledger, pack, range(1, 8))
        running = page.locator("#progress-running")
        expect(running).to_contain_text("7 of 20")
        expect(running).to_contain_text(str(owner))
        expect(now.get_by_text("trials, in 1 pack")).to_be_visible()

        finish(ledger, pack)
        expect(now).to_contain_text("6of 12; 50 %")
        second = pack_of(ledger, cell, cell.search_trials[6:])
        expect(now).to_contain_text("≈ 3 min")  # six trials of 30 s in one pack

        ledger.release(cell.name, owner)
        expect(running).to_contain_text("1 pack of an ended launch will be resumed by the next one.")
        expect(running.locator("table")).to_be_hidden()
        expect(now).to_contain_text("no launch is running")

        ledger.lease(cell.name, owner, 60)
        ledger.fail(second, "out of memory: <b>0 bytes</b> free")
        expect(page.locator("#progress-failures")).to_contain_text("out of memory: <b>0 bytes</b> free")
        finish(ledger, ledger.begin(second, cell.search_trials[6:]))
        confirm = cell.confirm_trials(cell.grid.point(4))  # all tie, and the middle wins
        finish(ledger, pack_of(ledger, cell, confirm, "confirm"))
        expect(now).to_contain_text("12of 12; 100 %")
        expect(page.locator("#progress-cells")).to_contain_text("89.00 ± 0.00 test, 3 seeds")
        expect(page.locator("#progress-failures")).to_be_hidden()
        assert page.evaluate("window.unreloaded") is True


def test_every_cell_leads_to_its_page_and_every_command_can_be_copied(browse: Browse) -> None:
    study = demo_source(epochs=40)
    site = browse(Snapshots(study, storage="--storage sqlite:///my.db", shown="sqlite:///my.db"))
    page = site.open("/progress")
    link = page.get_by_role("link", name="movielens_100k/adam-lawn/bs1000: open the cell")
    assert link.get_attribute("href") == "/cell?space=movielens_100k&cell=movielens_100k%2Fadam-lawn%2Fbs1000"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy optuna-dashboard sqlite:///my.db").click()
    assert page.evaluate("navigator.clipboard.readText()") == "optuna-dashboard sqlite:///my.db"
    expect(page.locator("#progress-commands")).to_contain_text(
        f"{launch_command(study.planned)} --storage sqlite:///my.db"
    )


def test_a_damaged_row_is_shown_and_the_page_comes_back_when_it_is_fixed(browse: Browse, sqlite_url: str) -> None:
    cell, file = make_cell("adam", 64), sqlite_url.removeprefix("sqlite:///")
    with open_ledger(sqlite_url) as ledger:
        ledger.register([cell])
        finish(ledger, pack_of(ledger, cell, cell.search_trials[:2]))
        write(file, "UPDATE lawn_trials SET summary = '{' || summary")
        site = browse(ledger)
        page = site.open("/progress")
        expect(page.get_by_role("alert")).to_contain_text("summary is not JSON")
        expect(page.get_by_role("alert")).to_contain_text("counts as failed")
        expect(page.locator("#progress-now")).to_contain_text("Failed2")
        expect(page.get_by_role("heading", level=1)).to_have_text("Progress")
        write(file, "UPDATE lawn_trials SET summary = substr(summary, 2)")
        expect(page.locator("#progress-now")).to_contain_text("2of 12")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator("#live")).to_have_text("Live")


def write(file: str, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
