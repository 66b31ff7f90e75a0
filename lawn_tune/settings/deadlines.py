"""Deadlines as people write them: after a while, at a time of day, at a moment."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from datetime import time as Clock

Deadline = timedelta | Clock | datetime
"""After a while, at the next time of day, or at a moment."""

LONGEST = timedelta(days=3650)
YEARS = (2000, 2999)
"""First and last year of a moment; the calendar of the library ends soon after 9999 in some time zones."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_deadline(text: str) -> Deadline:
    """Reads `8h`, `90m`, `1h30m`, `18:30`, `18:30:00`, or an ISO time.

    Raises:
        ValueError: text is none of these; its text is the rule.
    """
    parts = re.findall(r"(\d{1,6})([dhms])", text, re.ASCII)
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(_UNITS[unit] * int(number) for number, unit in parts)
        if seconds > LONGEST.total_seconds():
            raise ValueError(f"at most {LONGEST.days}d from now")
        return timedelta(seconds=seconds)
    try:
        if clock := re.fullmatch(r"(\d\d?)(:\d\d(?::\d\d)?)", text, re.ASCII):
            return Clock.fromisoformat(clock[1].zfill(2) + clock[2])
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time like 8h, 1h30m, 18:30 or 2026-12-24T18:30") from None
    if not YEARS[0] <= found.year <= YEARS[1]:
        raise ValueError(f"a time of the years {YEARS[0]} to {YEARS[1]}")
    return found


def moment(deadline: Deadline, now: datetime) -> datetime:
    """Returns when a deadline is, with a time zone.

    A time of day, or a moment without a time zone, is one of this machine's clocks, which may be changed in between;
    a while is that long whatever clocks do.

    Args:
        now: with a time zone.
    """
    if isinstance(deadline, timedelta):
        return (now.astimezone(UTC) + deadline).astimezone()
    if isinstance(deadline, datetime):
        return _local(deadline)
    today = now.astimezone().date()
    days = (today + timedelta(days=ahead) for ahead in range(3))
    # fold: the second of two equal times in the night in which clocks are turned back
    moments = (_local(datetime.combine(day, deadline.replace(fold=fold))) for day in days for fold in (0, 1))
    return next(at for at in moments if at > now)


def _local(wall: datetime) -> datetime:
    """Returns what a clock shows as a moment: one that it skips is as late as if the clock had not been changed."""
    return datetime.fromtimestamp(wall.timestamp(), UTC).astimezone()
