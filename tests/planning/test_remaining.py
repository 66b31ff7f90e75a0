"""What a cell still lacks: its plan minus what the ledger holds, priced pack by pack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.cells import PHASES
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.remaining import Remaining, remaining
from lawn_tune.planning.selection import winner
from lawn_tune.planning.speed import Speeds
from lawn_tune.results import Outcome
from tests.helpers.memory_source import confirm_rows, make_cell, search_rows

CELL = make_cell()
SIZE = CELL.grid.size
SPEEDS = Speeds()


def test_nothing_is_zero_and_changes_no_sum() -> None:
    assert Remaining() == Remaining(0, 0, 0.0)
    one = Remaining(3, 2, 5.0)
    assert one + Remaining() == Remaining() + one == one
    assert Remaining(1, 1, None) + one == Remaining(4, 3, None)


@pytest.mark.parametrize("pack_size", [None, 1, 4])
def test_an_empty_ledger_lacks_the_whole_plan(pack_size: int | None) -> None:
    left = remaining(CELL, (), SPEEDS, pack_size)
    packs = [
        (phase, pack) for phase in PHASES for pack in make_packs(CELL, phase, CELL.planned_trials(phase), pack_size)
    ]
    assert left.trials == SIZE + 3
    assert left.packs == len(packs)
    seconds = [SPEEDS.seconds(CELL, phase, pack) for phase, pack in packs]
    assert left.seconds == pytest.approx(sum(value for value in seconds if value is not None))


@given(st.lists(st.sampled_from(["diverged", "failed", 80.0, 70.0]), min_size=SIZE, max_size=SIZE), st.integers(0, 3))
def test_what_has_a_result_is_not_lacking(outcomes: list[object], confirmed: int) -> None:
    rows = search_rows(CELL, outcomes)  # type: ignore[arg-type]
    failed = outcomes.count("failed")
    won = winner(CELL, rows)
    if won is not None:
        rows += confirm_rows(CELL, won.hyperparameters, [80.0] * confirmed + [None] * (3 - confirmed))
    left = remaining(CELL, rows, SPEEDS)
    lost = not failed and won is None
    assert left.trials == failed + (0 if lost else 3 if failed else 3 - confirmed)
    assert (left.packs == 0) == (left.trials == 0)


def test_searches_of_other_spaces_are_not_lacking() -> None:
    others: dict[str, Outcome] = {trial.key: "complete" for trial in CELL.search_trials[:2]}
    assert remaining(CELL, (), SPEEDS, elsewhere=others).trials == SIZE - 2 + 3
    all_others: dict[str, Outcome] = {trial.key: "complete" for trial in CELL.search_trials}
    assert remaining(CELL, (), SPEEDS, elsewhere=all_others).trials == 3, "the winner is not known before a launch"
