"""How long one outage of a database is waited for, and what is said of it."""

from __future__ import annotations

import pytest

from lawn_tune.errors import LedgerError
from lawn_tune.ledger import patience
from lawn_tune.ledger.database import Unreachable
from lawn_tune.ledger.patience import PAUSE_SECONDS, Patience
from lawn_tune.words import duration


class Clock:
    """In place of the time module: time passes by sleeping alone."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return 1000.0 + sum(self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


class Database:
    """Fails so many times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def __call__(self) -> str:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("no answer", "Start it.")
        return "answer"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(patience, "time", found)
    return found


def test_an_outage_is_named_at_its_start_and_its_end_and_pauses_double(clock: Clock) -> None:
    said: list[str] = []
    waiting = Patience(said.append, seconds=3600)
    assert [waiting.repeat(Database(failures)) for failures in (0, 9, 0)] == ["answer"] * 3
    first, longest = PAUSE_SECONDS
    assert clock.pauses == [min(first * 2**i, longest) for i in range(9)]
    assert said == [
        "no answer; waiting for it, up to 60 min",
        f"the ledger is back after {duration(sum(clock.pauses))}",
    ]


def test_one_outage_is_waited_for_once_whatever_asks(clock: Clock) -> None:
    said: list[str] = []
    waiting = Patience(said.append, seconds=20.0)
    with pytest.raises(LedgerError, match=r"no answer \(waited 2[0-5] s\)"):
        waiting.repeat(Database(1000))
    waited = len(clock.pauses)
    assert 20 <= sum(clock.pauses) < 20 + PAUSE_SECONDS[1]
    with pytest.raises(LedgerError) as raised:
        waiting.repeat(Database(1))
    assert str(raised.value.hint).startswith("Start it. What was stored is kept")
    assert len(clock.pauses) == waited
    assert len(said) == 1
    assert waiting.repeat(Database(0)) == "answer"
    assert waiting.repeat(Database(1)) == "answer", "another outage"


def test_who_stops_does_not_wait(clock: Clock) -> None:
    with pytest.raises(LedgerError, match=r"waited 0 s"):
        Patience(lambda text: None, stopping=lambda: True).repeat(Database(1))
    assert clock.pauses == []
