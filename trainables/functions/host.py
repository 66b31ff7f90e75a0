"""A process that has imported torch and forks one process a trial: an import takes seconds, a fork none.

It has one thread and never touches a device, which is what makes a fork safe.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
from contextlib import suppress

import torch

from trainables.functions import child
from trainables.processes import python

START = "import sys; from trainables.functions.host import main; main(int(sys.argv[1]))"


class Host:
    """The worker's side: one trial at a time."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        command, environment = python(START, str(theirs.fileno()))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """False once it is gone."""
        return self._process.poll() is None

    def fileno(self) -> int:
        """Of a socket that can be read once the process that was begun last has ended."""
        return self._control.fileno()

    def fork(self, channel: socket.socket, output: int) -> int:
        """Begins a process with `child.run`; returns its id.

        Raises:
            ChildProcessError: the host has ended.
        """
        try:
            socket.send_fds(self._control, [b"f"], [channel.fileno(), output])
        except OSError:
            self.close()
        return self._number()

    def wait(self) -> int:
        """Returns the exit code of the process, −n after signal n, once it has ended."""
        return self._number()

    def close(self) -> None:
        """Ends it."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):  # and nothing beyond it: what is read early cannot be waited for
            if not (more := self._byte()):
                self.close()
                code = self._process.returncode
                raise ChildProcessError(f"the process that begins the trials of functions ended with code {code}")
            line += more
        return int(line)

    def _byte(self) -> bytes:
        """Returns the next byte that it sends; none once it has ended."""
        with suppress(OSError):
            return self._control.recv(1)
        return b""


_known: list[Host] = []
"""The host of this process; at most one."""


def host() -> Host:
    """Returns the host of this process, begun if there is none."""
    if not (_known and _known[0].alive):
        _known[:] = [Host()]
    return _known[0]


def main(control: int) -> None:
    """The host itself: forks as it is asked to, until its worker is gone."""
    worker = socket.socket(fileno=control)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # torch imports half of itself with the first optimizer
    while True:
        asked, given, _, _ = socket.recv_fds(worker, 1, 2)
        if not asked:
            return
        if (pid := os.fork()) == 0:
            worker.close()
            child.run(socket.socket(fileno=given[0]), given[1])
        for number in given:
            os.close(number)
        worker.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        worker.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
