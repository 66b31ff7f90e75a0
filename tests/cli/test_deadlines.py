"""Deadlines: read as people write them, and kept by the clocks of the machine, which may be changed in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lawn_tune.settings.deadlines import moment, parse_deadline

WINTER, SUMMER = timezone(timedelta(hours=1)), timezone(timedelta(hours=2))
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=WINTER)
SPRING = datetime(2026, 3, 28, 20, 0, tzinfo=WINTER)
"""The evening before clocks go from 02:00 to 03:00."""

AUTUMN = datetime(2026, 10, 24, 20, 0, tzinfo=SUMMER)
"""The evening before clocks go from 03:00 to 02:00."""


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those of central Europe, by a rule that needs no database of time zones."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("8h", NOON + timedelta(hours=8)),
        ("1d2h3m4s", NOON + timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("3650d", NOON + timedelta(days=3650)),
        ("12:01", NOON + timedelta(minutes=1)),
        ("12:00:01", NOON + timedelta(seconds=1)),
        ("9:30", NOON + timedelta(hours=21.5)),
        ("12:00", NOON + timedelta(days=1)),
        ("2026-11-25T01:00", NOON + timedelta(hours=13)),
        ("2026-11-24T12:00+00:00", NOON + timedelta(hours=1)),
    ],
)
def test_deadlines_are_read_as_people_write_them(text: str, then: datetime) -> None:
    assert moment(parse_deadline(text), NOON) == then
    assert moment(parse_deadline(text), NOON.astimezone(UTC)) == then


@pytest.mark.parametrize(
    ("now", "text", "hours"),
    [
        (SPRING, "8:00", 11),
        (SPRING, "12h", 12),
        (SPRING, "2026-03-29T08:00", 11),
        (SPRING, "2:30", 6.5),  # is 3:30, as there is no 2:30
        (AUTUMN, "8:00", 13),
        (AUTUMN, "12h", 12),
        (AUTUMN, "2026-10-25T08:00", 13),
        (AUTUMN, "2:30", 6.5),
        (AUTUMN + timedelta(hours=6.75), "2:30", 0.75),  # 2:45, and 2:30 comes again
        (AUTUMN + timedelta(hours=7.5), "2:30", 24),
    ],
)
def test_a_time_of_day_is_what_clocks_show_after_they_were_changed(now: datetime, text: str, hours: float) -> None:
    assert moment(parse_deadline(text), now) - now == timedelta(hours=hours)
