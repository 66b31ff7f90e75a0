"""Laws of sharing the free phase: a member always has exactly one row, and the right phase."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainables.tasks import Trial
from trainables.training.rows import Row, first_rows, row_of_member, split_rows, switch_step

FREE = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 9.0])
MEMBERS = st.lists(st.tuples(FREE, st.sampled_from([0.1, 0.2]), st.integers(0, 1)), min_size=1, max_size=9)


def members(values: list[tuple[float, float, int]]) -> tuple[Trial, ...]:
    return tuple(
        Trial(key=str(i), seed=seed, hyperparameters={"peak_lr": lr, "warmup_epochs": 1.0, "free_epochs": free})
        for i, (free, lr, seed) in enumerate(values)
    )


@given(MEMBERS, st.integers(1, 4), st.integers(1, 4))
def test_rows_follow_the_members_through_every_switch(
    values: list[tuple[float, float, int]], per_epoch: int, epochs: int
) -> None:
    pack = members(values)
    total = per_epoch * epochs
    switches = [switch_step(m.hyperparameters["free_epochs"], per_epoch, total) for m in pack]
    rows = first_rows(pack, "free_epochs")
    for step in range(total):
        split = split_rows(rows, [i for i, at in enumerate(switches) if at == step])
        for row, source in zip(split.rows, split.source, strict=True):
            assert set(row.members) <= set(rows[source].members), "a row is a copy of the row its members were in"
        for position in split.switching:
            assert split.rows[position].constrained
            assert not rows[split.source[position]].constrained
        rows = split.rows
        place = row_of_member(rows)
        assert sorted(place) == list(range(len(pack)))
        for i, at in enumerate(switches):
            assert rows[place[i]].constrained == (at is not None and at <= step)


@given(MEMBERS)
def test_members_share_a_row_only_when_all_but_free_epochs_agree(values: list[tuple[float, float, int]]) -> None:
    rows = first_rows(members(values), "free_epochs")
    assert sorted(m for row in rows for m in row.members) == list(range(len(values)))
    assert len(rows) == len({(lr, seed) for _, lr, seed in values})
    assert all(len({values[m][1:] for m in row.members}) == 1 for row in rows)


@given(MEMBERS)
def test_nothing_due_changes_nothing(values: list[tuple[float, float, int]]) -> None:
    rows = first_rows(members(values), "free_epochs")
    split = split_rows(rows, [])
    assert split.rows == rows
    assert split.source == tuple(range(len(rows)))
    assert split.switching == ()


def test_a_row_whose_members_all_switch_does_not_fork() -> None:
    split = split_rows((Row((0, 1)), Row((2,))), [0, 1])
    assert split.rows == (Row((0, 1), constrained=True), Row((2,)))
    assert split.switching == (0,)


def test_a_fork_leaves_the_free_part_in_place() -> None:
    split = split_rows((Row((0, 1)), Row((2,))), [1])
    assert split.rows == (Row((0,)), Row((2,)), Row((1,), constrained=True))
    assert split.source == (0, 1, 0)


def test_switch_steps() -> None:
    assert switch_step(None, 10, 100) is None, "a base optimizer"
    assert switch_step(0, 10, 100) == 0
    assert switch_step(0.25, 10, 100) == 2, "fractions of an epoch count in whole steps"
    assert switch_step(9.9, 10, 100) == 99
    assert switch_step(10, 10, 100) is None, "as many free epochs as there are"
    assert switch_step(50, 10, 100) is None
