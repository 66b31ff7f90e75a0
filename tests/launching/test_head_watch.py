"""A head that does not answer is given up before Ray aborts the process; what answers again is not."""

from __future__ import annotations

import itertools
import socket

import pytest

from lawn_tune.errors import ExecutionError
from lawn_tune.executors.head_watch import DEAD_SECONDS, LOOK_SECONDS, STOPPING_SECONDS, HeadWatch

RAY_ABORTS = 60.0
"""Seconds without its head after which Ray ends the process of the driver (`gcs_rpc_server_reconnect_timeout_s`)."""


class Machine:
    """Two processes and a clock."""

    def __init__(self) -> None:
        self.now, self.dead, self.stopping = 100.0, set[int](), False
        self.looks = 0
        self.watch = HeadWatch([("here", 1), ("here", 2)], lambda: self.stopping, self.answers, lambda: self.now)

    def answers(self, address: tuple[str, int]) -> bool:
        self.looks += 1
        return address[1] not in self.dead

    def passes(self, seconds: float) -> bool:
        patient = True
        for _ in range(int(seconds * 10)):
            self.now += 0.1
            patient = self.watch.check()
        return patient


@pytest.mark.parametrize("port", [1, 2])
def test_one_silent_process_ends_it_before_ray_aborts(port: int) -> None:
    machine = Machine()
    assert machine.passes(1000)
    machine.dead.add(port)
    assert machine.passes(DEAD_SECONDS - LOOK_SECONDS)
    with pytest.raises(ExecutionError, match=f"nothing answers at here:{port} for"):
        machine.passes(2 * LOOK_SECONDS)
    assert machine.now - 1100 < RAY_ABORTS - 10


def test_what_answers_again_in_time_is_not_given_up() -> None:
    machine = Machine()
    for _ in range(5):
        machine.dead.add(1)
        assert machine.passes(DEAD_SECONDS - 2 * LOOK_SECONDS)
        machine.dead.clear()
        assert machine.passes(2 * LOOK_SECONDS)
    assert machine.looks <= 2 * (machine.now - 100) / LOOK_SECONDS + 2, "a look costs connections"


def test_a_stopping_launch_waits_for_nothing_but_its_checkpoints() -> None:
    machine = Machine()
    machine.dead.add(1)
    machine.stopping = True
    assert machine.passes(STOPPING_SECONDS - 1)
    assert not machine.passes(2)


def test_a_port_on_which_nothing_listens_does_not_answer() -> None:
    moments = itertools.count(step=DEAD_SECONDS)
    with socket.socket() as listening, socket.socket() as bound:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        bound.bind(("127.0.0.1", 0))
        both = [listening.getsockname(), bound.getsockname()]
        watch = HeadWatch(both, lambda: False, clock=lambda: next(moments))
        with pytest.raises(ExecutionError, match=f"nothing answers at 127.0.0.1:{both[1][1]} for"):
            watch.check()
