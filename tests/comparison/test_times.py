"""Invariants of times to target and of performance profiles."""

from __future__ import annotations

import csv
import io
import json
import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.renderers.race import RACES, arrival_rows
from lawn_tune.comparison.times import CUT, Arrival, arrivals, first_epoch, profiles
from lawn_tune.words import method
from tests.helpers.memory_source import MemorySource, demo_source
from tests.helpers.pair_source import pair_source
from trainables.catalogue.rows import Direction

SPACE = "movielens_100k"


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return demo_source(epochs=20)


@pytest.fixture(scope="module")
def found(source: MemorySource) -> tuple[Arrival, ...]:
    return arrivals(source, compare_space(source, SPACE))


@given(st.lists(st.one_of(st.integers(0, 5).map(float), st.just(math.nan)), max_size=8), st.integers(0, 5))
def test_a_run_arrives_at_the_first_epoch_that_is_as_good(values: list[float], target: int) -> None:
    for direction, sign in (("maximize", 1), ("minimize", -1)):
        good = [i + 1 for i, value in enumerate(values) if sign * value >= sign * target]
        chosen: Direction = "maximize" if direction == "maximize" else "minimize"
        assert first_epoch(np.array(values), target, chosen) == (good[0] if good else math.inf)


def test_both_methods_of_each_confirmed_pair_run_for_the_baseline_s_value(
    source: MemorySource, found: tuple[Arrival, ...]
) -> None:
    comparison = compare_space(source, SPACE)
    confirmed = [pair for pair in comparison.pairs if pair.difference]
    assert {(arrival.task, arrival.cell) for arrival in found} == {
        (str(pair.baseline.cell.name), str(result.cell.name)) for pair in confirmed for result in pair.cells
    }
    for arrival in found:
        (result,) = [result for result in comparison.cells if str(result.cell.name) == arrival.cell]
        (base,) = [result for result in comparison.cells if str(result.cell.name) == arrival.task]
        assert base.confirmed is not None
        assert result.confirmed is not None
        assert arrival.target == base.confirmed.mean
        for key, epoch, hours in zip(result.confirmed.keys.values(), arrival.epochs, arrival.device_hours, strict=True):
            curve = source.series[key]["test/hr@10"]
            assert (epoch == math.inf) == (curve.max() < arrival.target)
            if math.isfinite(epoch):
                assert curve[int(epoch) - 1] >= arrival.target > max(curve[: int(epoch) - 1], default=-math.inf)
                (row,) = [row for row in source.rows if row.key == key]
                assert hours * 3600 == pytest.approx((row.summary["seconds"] or 0) * epoch / row.total_epochs)


TIMES = st.one_of(st.integers(1, 40).map(float), st.just(math.inf))


@given(st.lists(st.lists(TIMES, min_size=2, max_size=3), min_size=1, max_size=6))
def test_shares_rise_somebody_is_the_fastest_and_the_score_is_the_area(tasks: list[list[float]]) -> None:
    runs = [
        Arrival(f"s/a/bs{i}", f"s/{side}/bs{i}", side, 1.0, (time,), (time / 10,))
        for i, times in enumerate(tasks)
        for side, time in zip("abc", times, strict=False)
    ]
    shown = profiles(runs)
    assert profiles(runs, "device_hours")[0].ratios == pytest.approx(shown[0].ratios)
    for profile in shown:
        assert list(profile.shares) == sorted(profile.shares)
        assert all(1 <= ratio <= CUT for ratio in profile.ratios)
        grid = np.linspace(1, CUT, 6_001)
        area = np.mean([profile.within(ratio + 1e-12) for ratio in grid[::20]])
        assert profile.score == pytest.approx(area, abs=0.01)
    pairs = [(times[0], other) for times in tasks for other in times[1:]]
    assert shown[0].pairs == len(pairs) == sum(profile.pairs for profile in shown[1:])
    arriving = sum(min(pair) < math.inf for pair in pairs)
    assert sum(profile.within(1.0) * profile.pairs for profile in shown) >= arriving - 1e-9


def test_a_pair_of_one_side_and_a_run_without_a_rival_are_no_race() -> None:
    runs = [
        Arrival("s/adam/bs1", "s/adam/bs1", "weight decay", 1.0, (10.0,), (1.0,)),
        Arrival("s/adam/bs1", "s/adam-lawn/bs1", "LAWN", 1.0, (5.0,), (1.0,)),
        Arrival("s/lamb-lawn/bs1", "s/lamb-lawn/bs1", "LAWN", 1.0, (10.0,), (1.0,)),
        Arrival("s/lamb-lawn/bs1", "s/adam-lawn/bs1", "LAWN", 1.0, (40.0,), (1.0,)),
        Arrival("s/sgd/bs1", "s/sgd/bs1", "weight decay", 1.0, (10.0,), (1.0,)),
    ]
    found = {profile.side: (profile.pairs, profile.within(1.0)) for profile in profiles(runs)}
    assert found == {"weight decay": (1, 0.0), "LAWN": (1, 1.0)}


def test_a_baseline_whose_runs_collapsed_sets_no_target() -> None:
    """The mean of runs near 80 % and of one at 0 is a value that the good ones pass in their first epochs."""
    for hits, tasks in (((160, 161, 0), 0), ((160, 161, 162), 1)):
        source = pair_source(hits, (160, 161, 162))
        source.series = {row.key: {"test/accuracy": np.linspace(0, 90, 20)} for row in source.rows}
        assert len({arrival.task for arrival in arrivals(source, compare_space(source, "digits"))}) == tasks


def test_every_format_holds_the_same_times(found: tuple[Arrival, ...]) -> None:
    values = json.loads(RACES["json"](found))
    lines = list(csv.DictReader(io.StringIO(RACES["csv"](found))))
    assert len(lines) == sum(arrival.n for arrival in found)
    for shown, arrival, row in zip(values["arrivals"], found, arrival_rows(found), strict=True):
        ours = [line["epochs"] for line in lines if (line["task"], line["cell"]) == (arrival.task, arrival.cell)]
        assert [float(text) if text else None for text in ours] == shown["epochs"]
        assert row[1] == method(arrival.cell.split("/")[1]), "as in the other tables"
        assert row[3] == f"{shown['arrived']} of {shown['n']}"
        middle = median(math.inf if epoch is None else epoch for epoch in shown["epochs"])
        assert row[4].startswith("never" if middle == math.inf else f"{middle:,.6g} (")
        assert " | ".join(row[3:]) in RACES["md"](found)
    assert [profile["side"] for profile in values["profiles"]["epochs"]] == ["weight decay", "LAWN"]
