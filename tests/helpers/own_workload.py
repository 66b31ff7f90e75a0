"""The workload of the page on own workloads, in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.helpers.functions import Functions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own_workload.md").read_text()


def block(language: str) -> str:
    found: str = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0]
    return found


SOURCE, SPACE = block("python"), block("toml")


SMALLER = {"1200": "300", "0, 384": "0, 96", "384, 576": "96, 144", "576, ": "144, ", "examples = 384": "examples = 96"}
FEWER = {"epochs = 15": "epochs = 2", "warmup_epochs = [2]": "warmup_epochs = [1]"}


def replaced(text: str, changes: Iterable[tuple[str, str]]) -> str:
    for before, after in changes:
        text = text.replace(before, after)
    return text


def waves(folder: Path, *changes: tuple[str, str]) -> Functions:
    """The page's space with few examples and epochs, and texts of its source replaced."""
    source = replaced(SOURCE, SMALLER.items())
    assert all(before in source for before, _ in changes)
    space = replaced(SPACE, [*SMALLER.items(), *FEWER.items()])
    return Functions(folder, replaced(source, changes), space, "waves.py")


def summaries(end: dict[str, Any]) -> list[dict[str, Any]]:
    """What a job ended with, without what depends on the machine."""
    assert end["kind"] == "finished", end
    assert {outcome["outcome"] for outcome in end["outcomes"]} == {"complete"}
    apart = ("seconds", "peak_memory_bytes")
    return [
        {name: value for name, value in outcome["summary"].items() if name not in apart} for outcome in end["outcomes"]
    ]
