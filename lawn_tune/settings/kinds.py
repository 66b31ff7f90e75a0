"""Text → value of each kind of setting. Each raises ValueError with the rule, as in "must be <rule>"."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from lawn_tune.storage import StorageUrl, is_path
from trainables.tasks import RANKS

YES = ("1", "true", "yes")
NO = ("0", "false", "no")

SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs")
"""Of URLs that pyarrow opens; all but `file` need it. It comes with Ray."""

Choice = TypeVar("Choice", bound=str)


def url(text: str) -> str:
    """A storage URL; UsageError explains what is wrong with any other text."""
    StorageUrl.parse(text)
    return text


def folder(text: str) -> Path:
    """The path of a folder, which need not exist."""
    if not is_path(text):
        raise ValueError("the path of a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("the path of a folder; '~' must be followed by a user of this machine") from None


def checkpoint_place(text: str) -> str:
    """An absolute folder, or the URL of a place that pyarrow opens."""
    if "://" not in text:
        return str(folder(text).resolve())
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a folder, or a URL that begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if ("@" in parts.netloc and not parts.scheme.startswith("abfs")) or parts.password:
        raise ValueError("a URL without keys: those come from each machine's role, variables or files")
    return text


def number(unit: str, examples: str, *, zero: bool = True) -> Callable[[str], float]:
    """A decimal number that is not negative.

    Args:
        unit: what it counts, as "seconds".
        examples: as "30 or 0.5".
        zero: True to allow 0.
    """

    def parse(text: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or not (zero or float(text)):
            raise ValueError(f"a number of {unit}{'' if zero else ' above 0'}, as {examples}")
        return float(text)

    return parse


def whole(lowest: int, highest: int = 999_999) -> Callable[[str], int]:
    """A whole number."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def command(text: str) -> tuple[str, ...]:
    """A program and its arguments, split as a shell would; no shell ever reads them."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        words = ()
    if not words:
        raise ValueError("a program and its arguments, with every quote closed")
    return words


def yes(text: str) -> bool:
    """Yes or no."""
    if text.lower() not in YES + NO:
        raise ValueError(f"{', '.join(YES)} or {', '.join(NO)}")
    return text.lower() in YES


def one_of(choices: tuple[Choice, ...]) -> Callable[[str], Choice]:
    """One of some words."""

    def parse(text: str) -> Choice:
        for choice in choices:
            if text == choice:
                return choice
        raise ValueError(f"one of {', '.join(choices)}")

    return parse


def gpus_per_trial(text: str) -> int:
    """A number of GPUs that can share the micro-batches of a step."""
    return int(one_of(tuple(map(str, RANKS)))(text))


def ray_address(text: str) -> str:
    """`auto`, or HOST:PORT of a Ray cluster."""
    found = re.fullmatch(r"(?:ray://)?(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", text, re.ASCII)
    if text != "auto" and (found is None or not 1 <= int(found[1]) <= 65535):
        raise ValueError("HOST:PORT or auto")
    return text
