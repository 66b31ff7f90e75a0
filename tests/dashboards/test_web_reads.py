"""Shared reads and filters: one read for all viewers, never an old state for a new one, and any address is harmless."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.web.filters import MAX_VALUES, Filters, href
from dashboards.web.page import View
from dashboards.web.snapshot import FRESH_SECONDS, KEPT, STALE_SECONDS, Driver, Snapshots
from lawn_tune.comparison.compare import compare_space
from lawn_tune.errors import UsageError
from lawn_tune.results import TrialRow
from tests.helpers.memory_source import MemorySource, confirm_rows, demo_source, make_cell, search_rows


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Counting(MemorySource):
    """Counts reads, and holds them up until it is let go."""

    calls: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def trials(self, space: str) -> tuple[TrialRow, ...]:
        self.calls["trials"] += 1
        self.gate.wait(10)
        return super().trials(space)

    def version(self, space: str) -> str:
        self.calls["version"] += 1
        return repr((self.planned, self.rows))

    def curves(self, keys: Sequence[str]) -> Any:
        self.calls["curves"] += len(keys)
        return super().curves(keys)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Counting:
    made = demo_source(epochs=10)
    return Counting(made.planned, made.rows, made.outcomes, made.series)


SPACE = "movielens_100k"


def test_many_viewers_make_one_read(source: Counting, clock: Clock) -> None:
    snapshots = Snapshots(source, clock=clock)
    source.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(snapshots.snapshot, SPACE) for _ in range(8)]
        source.gate.set()
        found = {id(one.result()) for one in asked}
    assert len(found) == source.calls["trials"] == source.calls["version"] == 1


def test_an_unchanged_ledger_is_not_read_again(source: Counting, clock: Clock) -> None:
    snapshots = Snapshots(source, clock=clock)
    first = snapshots.refreshed(SPACE)
    for _ in range(5):
        clock.now += FRESH_SECONDS
        assert snapshots.refreshed(SPACE) is first
    assert source.calls == {"trials": 1, "version": 6}


def test_a_changed_ledger_is_read_again_once_the_snapshot_is_old(source: Counting, clock: Clock) -> None:
    snapshots = Snapshots(source, clock=clock)
    first = snapshots.refreshed(SPACE)
    source.rows.pop()
    assert snapshots.refreshed(SPACE) is first
    clock.now += FRESH_SECONDS
    assert snapshots.snapshot(SPACE) is first  # a click does not wait for the reader
    second = snapshots.refreshed(SPACE)
    assert second.trials == first.trials[:-1]
    assert snapshots.snapshot(SPACE) is second
    source.rows.pop()
    clock.now += STALE_SECONDS
    assert snapshots.snapshot(SPACE).trials == first.trials[:-2]  # without a page that polls, too


def test_the_comparison_is_that_of_the_ledger(source: Counting) -> None:
    assert repr(Snapshots(source).snapshot(SPACE).comparison) == repr(compare_space(source, SPACE))


def test_an_epoch_more_does_not_compare_again_and_a_result_does(clock: Clock) -> None:
    cell = make_cell("adam")
    rows = search_rows(cell, [90.0, "running", *[80.0 for _ in range(7)]])
    source = MemorySource([cell], rows)
    snapshots = Snapshots(source, clock=clock)
    first = snapshots.refreshed("digits").comparison
    source.rows[1] = replace(rows[1], epochs=rows[1].epochs + 1)
    clock.now += FRESH_SECONDS
    assert snapshots.refreshed("digits").comparison is first
    source.rows[1] = search_rows(cell, [90.0, 99.0, *[80.0 for _ in range(7)]])[1]
    clock.now += FRESH_SECONDS
    second = snapshots.refreshed("digits").comparison
    assert second.cells[0].winner is not None
    assert second.cells[0].winner.value == 99.0
    assert second == compare_space(source, "digits")
    source.rows += confirm_rows(cell, second.cells[0].winner.hyperparameters, [91.0, 92.0, 93.0])
    clock.now += FRESH_SECONDS
    assert snapshots.refreshed("digits").comparison == compare_space(source, "digits")


def test_curves_of_finished_trials_are_read_once(source: Counting, clock: Clock) -> None:
    snapshots = Snapshots(source, clock=clock)
    keys = list(source.series)[:5]
    first = snapshots.snapshot(SPACE)
    assert set(first.curves(keys)) == set(keys)
    source.rows.pop()
    clock.now += FRESH_SECONDS
    assert set(snapshots.refreshed(SPACE).curves(keys)) == set(keys)
    assert source.calls["curves"] == len(keys)


def test_curves_of_running_trials_are_read_every_time(source: Counting) -> None:
    [key, *_] = source.series
    source.rows = [replace(row, outcome="running") if row.key == key else row for row in source.rows]
    snapshot = Snapshots(source).snapshot(SPACE)
    snapshot.curves([key])
    snapshot.curves([key])
    assert source.calls["curves"] == 2
    assert snapshot.curves(["none"]) == {}


def test_only_so_many_spaces_are_kept(clock: Clock) -> None:
    source = Counting([make_cell("adam", space=f"space-{i:02}") for i in range(KEPT + 4)])
    snapshots = Snapshots(source, clock=clock)
    for name in source.spaces():
        snapshots.snapshot(name)
    before = source.calls["trials"]
    snapshots.snapshot(source.spaces()[-1])
    assert source.calls["trials"] == before
    snapshots.snapshot(source.spaces()[0])
    assert source.calls["trials"] == before + 1


def test_the_space_that_trained_last_is_shown_first(source: Counting, clock: Clock) -> None:
    snapshots = Snapshots(source, clock=clock)
    source.planned += [make_cell("adam", space="a"), make_cell("adam", space="b")]
    source.rows = []
    assert snapshots.first() == "a"
    for space, time in (("b", "started"), (SPACE, "ended"), ("a", "started")):
        cell = make_cell("adam", space=space)
        [row, *_] = search_rows(cell, [90.0 for _ in range(9)])
        source.rows.append(replace(row, provenance={time: f"2026-11-24T05:00:{len(source.rows):02d}"}))
        clock.now += FRESH_SECONDS
        assert snapshots.first() == space


def test_who_holds_a_cell() -> None:
    snapshots = Snapshots(MemorySource(), lambda: {"a/adam/bs1": ("host:1", True), "a/adam/bs2": ("host:2", False)})
    assert snapshots.drivers()["a/adam/bs1"] == Driver("host:1", True)
    assert [snapshots.alive(f"a/adam/bs{i}") for i in (1, 2, 3)] == [True, False, False]
    assert Snapshots(MemorySource()).alive("a/adam/bs1")


def test_a_view_of_no_space_is_refused(source: Counting) -> None:
    for place in ({}, {"space": None}, {"space": "none"}, {"space": ["x"]}):
        with pytest.raises(UsageError, match="there is no space"):
            View.of(Snapshots(source), place)
    view = View.of(Snapshots(source, storage="--storage sqlite:///a.db"), {"space": SPACE, "filters": {"a": "b"}})
    assert view.filters.one("a") == "b"
    assert view.command("status") == "lawn-tune status --storage sqlite:///a.db"


# --- filters

NAMES = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True).filter(lambda name: name != "space")
VALUES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4)


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.text(max_size=20))
def test_an_address_holds_every_filter(values: dict[str, list[str]], space: str) -> None:
    filters = Filters.from_dict(values)
    parts = urlsplit(href("/cell", space, filters))
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    assert parts.path == "/cell"
    assert dict(pairs).get("space", "") == space
    assert {name: [v for n, v in pairs if n == name] for name in values} == values == filters.to_dict()


@given(st.dictionaries(st.text(max_size=40), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()))))
def test_what_is_malformed_is_left_out(values: dict[str, Any]) -> None:
    filters = Filters.from_dict(values)
    assert Filters.from_dict(filters.to_dict()) == filters
    assert all(isinstance(value, str) and value for _, found in filters.values for value in found)
    assert filters["space"] == ()


def test_filters_are_limited_and_nothing_chosen_allows_all() -> None:
    filters = Filters.from_dict({"batch": [str(i) for i in range(10_000)], "long": "x" * 10_000})
    assert len(filters["batch"]) == MAX_VALUES
    assert filters["long"] == ()
    assert filters.allows("batch", 7)
    assert not filters.allows("batch", -1)
    assert filters.allows("optimizer", "adam")
    assert filters.one("optimizer", "sgd") == "sgd"
