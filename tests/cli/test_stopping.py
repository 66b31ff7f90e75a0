"""What signals do to a launch, in one process; `tests/faults` sends them to real ones."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from rich.console import Console

from lawn_tune.cli import stopping
from lawn_tune.cli.stopping import Stops, stopped_by_signals


@dataclass
class Agenda:
    stopped: int = 0

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def stops() -> Iterator[Stops]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also under nohup, where a launch goes on
    with stopped_by_signals(Agenda(), Console(file=io.StringIO())) as found:  # type: ignore[arg-type]
        yield found
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def quits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that were left to the system."""
    raised: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: raised.append(number))
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    return raised


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_exit_code_is_the_shell_s_for_the_first_signal(stops: Stops, number: signal.Signals) -> None:
    signal.raise_signal(number)
    signal.raise_signal(signal.SIGHUP)
    assert stops.exit_code == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_process_and_group_is_one_request(
    stops: Stops, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, quits: list[int]
) -> None:
    for _ in range(3):
        stops.handle(number, None)
    assert not quits
    later = time.monotonic() + stopping.SAME_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    stops.handle(number, None)
    assert set(quits) == {number}, "the second request ends the process"


def test_another_signal_is_a_second_request(stops: Stops, quits: list[int]) -> None:
    stops.handle(signal.SIGINT, None)
    stops.handle(signal.SIGTERM, None)
    assert set(quits) == {signal.SIGTERM}


@pytest.mark.parametrize("ours", [True, False])
def test_an_alarm_that_python_did_not_set_is_cancelled(
    stops: Stops, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms: list[int] = []
    monkeypatch.setattr(signal, "alarm", alarms.append)
    monkeypatch.setattr(signal, "getsignal", lambda number: print if ours else signal.SIG_DFL)
    stops.handle(signal.SIGTERM, None)
    assert alarms == ([] if ours else [0])
