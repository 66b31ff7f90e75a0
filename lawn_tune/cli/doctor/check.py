"""One line of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, and what to do if it is not ok."""

    name: str
    state: State
    detail: str
    todo: str = ""
