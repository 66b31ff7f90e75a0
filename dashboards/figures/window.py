"""The part of an axis that intervals share, chosen so that a few with collapsed runs do not shrink the others."""

from __future__ import annotations

from collections.abc import Sequence

Ends = tuple[float, float]

_WIDE, _FAR = 4.0, 10.0
"""An interval is left out of account if it is so many times as wide as a typical one, or reaches so much farther."""


def window(spans: Sequence[Ends], means: Sequence[float], air: float) -> Ends:
    """Returns the ends of an axis that holds zero and all intervals except those that are very wide or far away.

    The means of those are on it where that does not make it longer to one side than it is to the other. A side on which
    something is left out is at least half as long as the other, so that what is left of it there shows.

    Args:
        spans: ends of each interval; both are equal for a single value.
        means: of the intervals.
        air: free part at each end, as a share of what is between them.
    """
    width = _lower_median([high - low for low, high in spans if high > low])
    reach = _lower_median([_reach(span) for span in spans if any(span)])
    near = [span for span in spans if span[1] - span[0] <= _WIDE * width and _reach(span) <= _FAR * reach]
    ends = [0.0, *(end for span in near or spans for end in span)]
    longest = max(map(abs, ends))
    ends += [mean for mean in means if abs(mean) <= longest]
    low, high = min(ends), max(ends)
    if any(span[0] < low for span in spans):
        low = min(low, -high / 2)
    if any(span[1] > high for span in spans):
        high = max(high, -low / 2)
    more = air * (high - low) or 1.0
    return low - more, high + more


def _reach(span: Ends) -> float:
    return max(map(abs, span))


def _lower_median(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2] if values else 0.0
