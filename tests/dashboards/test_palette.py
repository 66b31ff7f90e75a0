"""Every text of the pages and the report is read: at least 4.5:1 on each background that it may have."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

import dashboards
from dashboards import style
from tests.helpers.contrast import contrast

ROOT = Path(dashboards.__file__).parent
SHEETS = {"page": ROOT / "assets", "report": ROOT / "templates"}
SURFACES = {"page": ("page", "card", "hover"), "report": ("page", "panel")}
READABLE = 4.5
"""WCAG 2.2, level AA, for texts of any size."""

Palette = dict[str, str]


def css(kind: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(SHEETS[kind].glob("*.css")))


def palettes(kind: str) -> tuple[Palette, Palette]:
    """Returns the colors by name, light and dark."""
    blocks = re.findall(r":root[^{,]*\{([^}]*)\}", css(kind))
    light, dark, *_ = [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", block)) for block in blocks]
    return light, light | dark


def pairs(kind: str) -> Iterator[tuple[str, str]]:
    """Yields (text, background) of every rule that names the color of a text."""
    for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", css(kind)):
        text = re.search(r"(?<![\w-])color:\s*var\(--([\w-]+)\)", rule)
        if text is None or ":root" in selector:
            continue
        behind = re.search(r"background(?:-color)?:\s*var\(--([\w-]+)\)", rule)
        yield from ((text[1], name) for name in ([behind[1]] if behind else SURFACES[kind]))


@pytest.mark.parametrize("kind", SHEETS)
def test_every_text_is_read_on_every_background(kind: str) -> None:
    found = set(pairs(kind)) | {("ink", name) for name in SURFACES[kind]}
    assert len(found) > 8
    weak = {
        (theme, text, behind): round(contrast(palette[text], palette[behind]), 2)
        for theme, palette in zip(("light", "dark"), palettes(kind), strict=True)
        for text, behind in found
        if contrast(palette[text], palette[behind]) < READABLE
    }
    assert not weak


def test_groups_by_rank_differ_in_hue_and_are_seen_in_both_themes() -> None:
    for color in style.RANKS:
        assert all(contrast(color, palette["card"]) >= 3 for palette in palettes("page"))
    hues = [colorsys.rgb_to_hls(*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0] for color in style.RANKS]
    assert all(abs(one - other) > 0.1 for one, other in combinations(hues, 2))
