"""When is another driver certainly dead? Only when this machine can see that its process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from lawn_tune.ledger import Owner


def _gone() -> int:
    """Returns the ID of a process that has ended and been waited for."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_living_process_is_not_dead() -> None:
    assert not Owner.current().is_dead()
    assert not replace(Owner.current(), pid=os.getppid(), started=_started(os.getppid())).is_dead()


def test_a_process_that_ended_is_dead() -> None:
    assert replace(Owner.current(), pid=_gone()).is_dead()


def test_a_killed_process_nobody_waited_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        owner = replace(Owner.current(), pid=child.pid, started=_started(child.pid))
        assert not owner.is_dead()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_dead()


def test_a_later_process_of_the_same_id_does_not_keep_an_owner_alive() -> None:
    assert replace(Owner.current(), started="1").is_dead()


def test_nothing_is_said_of_processes_elsewhere() -> None:
    gone = replace(Owner.current(), pid=_gone())
    assert not replace(gone, host="elsewhere").is_dead()
    assert not replace(gone, boot="another boot or container").is_dead()


def test_two_owners_of_one_process_differ() -> None:
    assert Owner.current() != Owner.current()


def _started(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]
