"""The timeline of devices: every pack once, in as few rows as overlap, and busy where a pack was trained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.figures.base import plain
from dashboards.figures.timeline import timeline_figure, timeline_info
from lawn_tune.results import UTILIZATION, TrialRow
from tests.helpers.memory_source import make_cell, search_rows

CELL = make_cell("adam-lawn")
START = datetime(2026, 11, 24, tzinfo=UTC)
SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20), st.sampled_from("ab")), min_size=1, max_size=9)


def trained(spans: list[tuple[int, int, str]]) -> list[TrialRow]:
    """One pack of one trial for each (start, length, host), in seconds."""
    rows = []
    for i, (row, (start, length, host)) in enumerate(zip(search_rows(CELL, [50.0] * 9), spans, strict=False)):
        ends = {"started": START + timedelta(seconds=start), "ended": START + timedelta(seconds=start + length)}
        where = {"host": host, "device": "cpu", **{name: time.isoformat() for name, time in ends.items()}}
        rows.append(replace(row, pack=f"p{i}", provenance=where))
    return rows


@given(SPANS)
def test_every_pack_is_in_a_row_without_overlap_and_no_row_is_spare(spans: list[tuple[int, int, str]]) -> None:
    info = timeline_info([CELL], trained(spans))
    assert sum(len(lane.jobs) for lane in info.lanes) == len(spans)
    for lane in info.lanes:
        assert all(one.ended <= other.started for one, other in zip(lane.jobs, lane.jobs[1:], strict=False))
    for host in {host for _, _, host in spans}:
        here = [(start, start + length) for start, length, other in spans if other == host]
        most = max(sum(a <= second < b for a, b in here) for second in range(80))
        assert sum(lane.jobs[0].device == f"{host}, cpu" for lane in info.lanes) == most
        seconds = {second for a, b in here for second in range(a, b)}
        whole = max(b for _, b in here) - min(a for a, _ in here)
        assert info.busy[f"{host}, cpu"] == pytest.approx(len(seconds) / whole)
    assert plain(timeline_figure(info))["data"]


def test_a_job_shows_how_busy_it_kept_its_device_where_that_is_known() -> None:
    first, second, third = trained([(0, 1, "a"), (2, 1, "a"), (4, 1, "a")])
    rows = [
        replace(first, provenance={**first.provenance, UTILIZATION: 0.83}),
        second,
        replace(third, provenance={**third.provenance, UTILIZATION: "much"}),
    ]
    (trace,) = plain(timeline_figure(timeline_info([CELL], rows)))["data"]
    assert ["83% busy" in text for text in trace["hovertext"] if text] == [True, True, False, False, False, False]


def test_what_states_no_date_is_left_out() -> None:
    rows = [replace(row, provenance={}) for row in search_rows(CELL, [50.0] * 9)]
    assert timeline_info([CELL], rows).lanes == ()
