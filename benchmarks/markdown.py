"""Tables and ratios of the pages that are written from results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table: the first column left-aligned, the others right-aligned."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio_text(found: Mapping[str, float]) -> str:
    """Returns a median with its interval and n, as `measure.ratio` gives them."""
    if found["n"] == 1:
        return f"{found['median']:.2f} (n = 1)"
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f}, n = {found['n']})"
