"""A SLURM cluster of two nodes that are this machine, with daemons of its own; and stand-ins for what jobs call."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
SECONDS = 60.0

CONFIGURATION = """\
ClusterName=lawn
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/daemon-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
ReturnToService=2
KillWait=10
MailProg=/bin/true
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=3 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=3 State=UNKNOWN
PartitionName=all Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""
"""cred_expire: how long a job that is queued again waits; SLURM's default is two minutes."""

RAY = """\
#!/bin/bash
echo "$*" >> "$RAY_LOG"
[ "$1" = start ] || exit 0
trap 'trap "" TERM; echo ended >> "$RAY_LOG"; exit 0' TERM
while true; do sleep 0.1 & wait $!; done
"""
"""What `ray` does as far as the scripts can see; it ends once, though SLURM and the script may both tell it to."""

LAWN_TUNE = """\
#!/bin/bash
exec {python} -m lawn_tune.cli.main "${{@:1:$#-1}}" --executor inline
"""
"""The real command without its last argument, which is the address of the cluster."""


def missing() -> str:
    """Why there can be no SLURM here, or ""."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.getuid() == 0 else "SLURM's daemons need root"


@dataclass
class Slurm:
    """A running cluster.

    Args:
        folder: for its files, and those of the stand-ins.
    """

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Starts the daemons and waits until the machine can take jobs."""
        for name in ("state", "spool-one", "spool-two", "bin"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)  # munge refuses a folder that is not open to those who ask it
        self._stand_ins()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o600)
        text = CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=self.folder, ports=free_ports(3))
        (self.folder / "slurm.conf").write_text(text)
        files = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")}
        self._daemon("munged", "--foreground", "--force", f"--socket={self.folder}/munge.sock", *files.values())
        wait_for((self.folder / "munge.sock").exists)
        self._daemon("slurmctld", "-D", "-c")
        for name in ("one", "two"):
            self._daemon("slurmd", "-D", "-c", "-N", name)
        wait_for(lambda: self.ask("scontrol", "show", "node", check=False).count("State=IDLE") == 2)

    def stop(self) -> None:
        """Ends all jobs, then the daemons."""
        self.ask("scancel", "--user=root", check=False)
        wait_for(lambda: not self.ask("squeue", "--noheader", check=False).strip())
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands and jobs need; the stand-ins come first in the path."""
        own = {"SLURM_CONF": f"{self.folder}/slurm.conf", "RAY_LOG": f"{self.folder}/ray.log"}
        return os.environ | own | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def ask(self, *command: str, check: bool = True, cwd: Path | None = None) -> str:
        """Runs a command and returns what it prints."""
        run = subprocess.run(command, cwd=cwd, env=self.environment, check=False, capture_output=True, text=True)
        if check and run.returncode:
            raise RuntimeError(f"{command}: {run.stderr}")
        return run.stdout

    def submit(self, folder: Path, script: str, *arguments: str, options: Sequence[str] = ()) -> str:
        """Submits a script of the documentation, and returns the job's number."""
        file = folder / "job.sbatch"
        file.write_text(script)
        given = ("--parsable", "--nodes=1", "--cpus-per-task=1", f"--output={folder}/job.log", *options)
        return self.ask("sbatch", *given, str(file), *arguments, cwd=folder).strip()

    def state(self, job: str) -> dict[str, str]:
        """Returns what SLURM knows of a job."""
        shown = self.ask("scontrol", "--oneliner", "show", "job", job)
        return dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)

    def rays(self) -> list[str]:
        """Returns how the stand-in of Ray was called and how it ended, line by line."""
        log = self.folder / "ray.log"
        return log.read_text().splitlines() if log.exists() else []

    def ray_processes(self) -> list[str]:
        """Returns the numbers of the stand-ins of Ray that run now."""
        return self.ask("pgrep", "-f", f"{self.folder}/bin/ray start", check=False).split()

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.log").open("wb") as log:
            daemon = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.daemons.append(daemon)

    def _stand_ins(self) -> None:
        for name, script in (("ray", RAY), ("lawn-tune", LAWN_TUNE.format(python=sys.executable))):
            file = self.folder / "bin" / name
            file.write_text(script)
            file.chmod(file.stat().st_mode | stat.S_IXUSR)


def free_ports(count: int) -> list[int]:
    """Returns ports that nothing listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(ready: Callable[[], object], seconds: float = SECONDS) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready after {seconds:g} s")
        time.sleep(0.1)
