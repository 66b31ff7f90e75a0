"""How machines are divided among jobs. Jobs are alike: each has as many cores, and the same GPUs or share of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

REPORTS = 50
"""Reports a second of all workers together that the one driver is asked to store (docs/scaling.md)."""

Node = Mapping[str, float]
"""One machine's resources as Ray names them: "CPU", "GPU", and "memory" in bytes."""


@dataclass(frozen=True)
class Slots:
    """How machines are divided among jobs.

    Args:
        count: jobs at once.
        cpus: CPU cores of each.
        gpus: GPUs of each; a whole number, a fraction 1/n, or 0.
    """

    count: int
    cpus: int
    gpus: float

    def on(self, node: Node, memory: float = 0.0) -> int:
        """Returns how many jobs a machine has room for, each with the given bytes; 0 asks for none."""
        cores = int(node.get("CPU", 0.0)) // self.cpus
        room = min(cores, self.on_gpus(int(node.get("GPU", 0.0)))) if self.gpus else cores
        return min(room, int(node.get("memory", 0.0) // memory)) if memory else room

    def on_gpus(self, gpus: int) -> int:
        """Returns how many jobs so many GPUs have room for."""
        return gpus // round(self.gpus) if self.gpus >= 1 else gpus * round(1 / self.gpus)


def report_seconds(jobs: int) -> float:
    """Returns the minimum time between two reports of a worker, s: half a second, and more when many jobs report."""
    return max(0.5, jobs / REPORTS)


def slots_of(workers: int | None, cpus: int, gpus: int, per_trial: int = 1) -> Slots:
    """Divides cores and GPUs: a job a GPU, or a job a core without GPUs; more jobs than GPUs share them evenly.

    Args:
        workers: jobs at once, or None for the rule above.
        cpus: cores of the machine, at least 1.
        gpus: GPUs to use; 0 trains on cores.
        per_trial: GPUs of a job where it has several, which it shares with no other.
    """
    if per_trial > 1:
        count = workers or max(1, gpus // per_trial)
        return Slots(count, max(1, cpus // count), float(per_trial))
    count = workers or gpus or cpus
    share = 1 / ceil(count / gpus) if gpus else 0.0
    return Slots(count, max(1, cpus // count), share)


def slots_on(nodes: Sequence[Node], workers: int | None = None, gpus: int | None = None, per_trial: int = 1) -> Slots:
    """Divides a cluster by the same rule, so that every job fits on one machine.

    Args:
        nodes: its machines as they are now; those that join later are divided into jobs of the same size.
        workers: most jobs at once, or None for as many as there is room for.
        gpus: most GPUs to use; None uses all there are, 0 trains on cores.
        per_trial: GPUs of a job where it has several, which are on one machine and its own.
    """
    cores, found = ([int(node.get(name, 0.0)) for node in nodes] for name in ("CPU", "GPU"))
    used = sum(found) if gpus is None else gpus
    if per_trial > 1:
        jobs = sum(here // per_trial for here in found)
        rooms = [cpus // (here // per_trial) for cpus, here in zip(cores, found, strict=True) if here >= per_trial]
        count = workers or max(1, min(jobs, used // per_trial))
        return Slots(count, max(1, min(rooms, default=1)), float(per_trial))
    if not used:
        return Slots(workers or max(1, sum(cores)), _cores(cores, workers), 0.0)
    count = workers or used
    a_gpu = ceil(count / min(used, sum(found) or used))
    rooms = [cpus // (here * a_gpu) for cpus, here in zip(cores, found, strict=True) if here]
    return Slots(count, max(1, min(rooms, default=1)), 1 / a_gpu)


def _cores(cores: Sequence[int], workers: int | None) -> int:
    """Returns the most cores that a job may have for `workers` jobs to fit; 1 if they do not, or if None is asked."""
    most = sum(cores) // workers if workers else 1
    fits = (size for size in range(most, 0, -1) if sum(here // size for here in cores) >= (workers or 0))
    return next(fits, 1)


class Room:
    """How many jobs may be with Ray at once, as machines come and go.

    Args:
        slots: what a job takes.
        nodes: asks for the machines there are now.
        workers: a number of jobs asked for, kept with Ray even where there is no room, so that an autoscaler sees them;
            None for as many as there is room for.
        most: maximum number of jobs at once.
    """

    ASK = 2.0
    """Seconds between two looks at the machines."""

    def __init__(
        self, slots: Slots, nodes: Callable[[], Sequence[Node]], workers: int | None = None, most: int | None = None
    ) -> None:
        self.slots, self.nodes, self.workers, self.most = slots, nodes, workers, most
        self._machines: Sequence[Node] = ()
        self._largest = inf
        self._found, self._ask_again = 0, 0.0
        self._seen = time.monotonic()

    def jobs(self, memory: float = 0.0) -> int:
        """Returns how many jobs may be with Ray now, if each asks for the given bytes."""
        now = time.monotonic()
        if now >= self._ask_again:
            self._machines, self._ask_again = tuple(self.nodes()), now + self.ASK
        self._found = sum(self.slots.on(node, memory) for node in self._machines)
        self._seen = now if self._found else self._seen
        wanted = self.workers or self._found
        return wanted if self.most is None else min(wanted, self.most)

    def memory(self, need: float) -> float:
        """Returns what a job may ask for, bytes: what it needs, and at most all of the largest machine."""
        fit = [node["memory"] for node in self._machines if self.slots.on(node) and "memory" in node]
        self._largest = max(fit, default=self._largest)
        return min(need, self._largest)

    @property
    def seconds_without(self) -> float:
        """For how long no machine could take a job, s."""
        return 0.0 if self._found else time.monotonic() - self._seen
