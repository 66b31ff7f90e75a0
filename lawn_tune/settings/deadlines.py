"""Deadlines as people write them: after a while, at a time of day, at a moment."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from datetime import time as Clock

Deadline = timedelta | Clock | datetime
"""After a while, at the next time of day, or at a moment."""

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_deadline(text: str) -> Deadline:
    """Reads `8h`, `90m`, `1h30m`, `18:30`, or an ISO time.

    Raises:
        ValueError: text is none of these; its text is the rule.
    """
    parts = re.findall(r"(\d{1,6})([dhms])", text, re.ASCII)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    try:
        if re.fullmatch(r"\d\d?:\d\d", text, re.ASCII):
            return Clock.fromisoformat(text.zfill(5))
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time like 8h, 1h30m, 18:30 or 2026-12-24T18:30") from None


def moment(deadline: Deadline, now: datetime) -> datetime:
    """Returns when a deadline is, with a time zone.

    Args:
        now: with a time zone, which holds for a deadline without one.
    """
    if isinstance(deadline, timedelta):
        return now + deadline
    if isinstance(deadline, datetime):
        return deadline if deadline.tzinfo else deadline.replace(tzinfo=now.tzinfo)
    today = datetime.combine(now.date(), deadline, now.tzinfo)
    return today if today > now else today + timedelta(days=1)
