"""Trains packs on Ray Tune: one experiment, one Tune trial a job, actors reused; `ray_jobs.py` is its other half.

Jobs come from a searcher that asks the agenda, so confirm runs start as soon as their cell is searched, and a pack that
was too large comes back as two. Tune keeps no state of ours: nothing is restored from its pickles, and a launch that
was killed is continued from the ledger.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})

import ray  # noqa: E402 - reads the environment when imported
from ray._private import services  # noqa: E402

from lawn_tune.errors import ExecutionError, LawnTuneError, UsageError  # noqa: E402
from lawn_tune.executors import patient_ray  # noqa: E402
from lawn_tune.executors.base import Agenda  # noqa: E402
from lawn_tune.executors.checkpoints import shared_token  # noqa: E402
from lawn_tune.executors.head_watch import HeadWatch  # noqa: E402
from lawn_tune.executors.holding import Held  # noqa: E402
from lawn_tune.executors.messages import WorkerSettings  # noqa: E402
from lawn_tune.executors.slots import Node, Room, Slots, report_seconds, slots_on  # noqa: E402
from lawn_tune.executors.surroundings import cluster_hint  # noqa: E402
from lawn_tune.storage import forget  # noqa: E402
from lawn_tune.words import duration  # noqa: E402

if TYPE_CHECKING:
    from lawn_tune.executors.ray_jobs import OpenJobs

CONNECT_SECONDS = 5.0
"""How long the head of a cluster has to accept a connection (our choice)."""

ADDRESSES = "Give HOST:PORT of the cluster's head, or auto on one of its machines."


@dataclass(frozen=True, kw_only=True)
class RayTuneExecutor:
    """Runs jobs as Tune trials, on a local Ray that it starts and ends, or on a running cluster.

    Args:
        settings: what every worker must know.
        slots: how this machine is divided among jobs, ignored with an address: a cluster is asked for its own. Several
            GPUs of a job have a process each, see `WorkerSettings.ranks`.
        work_dir: folder for Tune's own files, removed afterwards.
        total_gpus: GPUs of this machine, or None to count them; ignored with an address.
        address: of a running Ray cluster, or None to start Ray here.
        most_jobs, most_gpus: limits on a cluster, or None for all it has.
        connected: called with the number of jobs at once and whether they have GPUs, before the first is asked for.
    """

    settings: WorkerSettings
    slots: Slots
    work_dir: Path
    total_gpus: int | None = None
    address: str | None = None
    most_jobs: int | None = None
    most_gpus: int | None = None
    connected: Callable[[int, bool], None] = lambda count, on_gpu: None
    _held: list[Held[Slots]] = field(default_factory=list, init=False, repr=False, compare=False)
    """At most one."""

    def prepare(self, agenda: Agenda) -> None:
        """See `Executor.prepare`."""
        if not self._held:
            _remove_leftovers(self.work_dir)
            forget()  # Ray's processes inherit the environment
            self._held.append(Held("ray", self._start, _end, lambda: agenda.stopping))

    def run(self, agenda: Agenda) -> None:
        """See `Executor.run`."""
        self.prepare(agenda)
        from ray.tune import TuneError

        from lawn_tune.executors.ray_jobs import DESERTED, OpenJobs, tuner  # brings Tune, while Ray starts

        folder = self.work_dir.resolve() / f"ray-{os.getpid()}@{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        jobs = OpenJobs(agenda, self.settings)
        try:
            slots = self._held[0].started()
            if slots is None:
                return
            self.connected(slots.count, slots.gpus > 0)
            watch = HeadWatch(_needed(self.address), lambda: agenda.stopping)
            with _quiet(), self._on_cluster(jobs, slots):
                self._held[0].call(lambda: tuner(jobs, folder, slots).fit(), watch.check)
            if jobs.deserted:
                text = f"no machine of the cluster could take a job for {duration(DESERTED)}"
                raise ExecutionError(text, hint="Start workers; the same command continues where it ended.")
        except (ray.exceptions.RayError, TuneError, ConnectionError) as error:
            if not agenda.stopping:
                hint = "The same command continues where it ended."
                raise ExecutionError(f"Ray stopped: {error}", hint) from error
        finally:
            self.close()
            jobs.give_up("stopped" if agenda.stopping else "error", "Ray ended before the job did")
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """See `Executor.close`."""
        if self._held:
            self._held.pop().close()

    @contextlib.contextmanager
    def _on_cluster(self, jobs: OpenJobs, slots: Slots) -> Iterator[None]:
        """Lets jobs follow the cluster as it grows and shrinks, and its workers check whether they see our folder."""
        if self.address is None:
            yield
            return
        most = slots.on_gpus(self.most_gpus) if self.most_gpus and slots.gpus else None
        jobs.room = Room(slots, _nodes, self.most_jobs, most)
        with shared_token(self.settings.checkpoint_dir) as token:
            jobs.settings = replace(
                self.settings,
                threads=slots.cpus,
                use_gpu=slots.gpus > 0,
                report_seconds=report_seconds(slots.count),
                token=token,
            )
            yield

    def _start(self) -> Slots:
        """Starts or joins Ray."""
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        local: dict[str, Any] = {"address": "local", "num_gpus": self.total_gpus, "include_dashboard": False}
        local["num_cpus"] = self.slots.cpus * self.slots.count
        if self.address is not None:
            _reach(self.address)
        with _quiet():
            try:
                if self.address is None:
                    with patient_ray.lean():
                        patient_ray.init(**common, **local)
                else:
                    patient_ray.init(**common, address=self.address)
            except ExecutionError:
                raise
            except Exception as error:  # of many classes, and few of them Ray's own
                raise self._not_started(error) from error
            nodes = _nodes()
            if self.address is None:
                slots = self.slots
            else:
                slots = slots_on(nodes, self.most_jobs, self.most_gpus, self.settings.ranks)
        _check_resources(slots, nodes)
        return slots

    def _not_started(self, error: Exception) -> LawnTuneError:
        if self.address is None:
            return ExecutionError(
                f"Ray did not start on this machine: {error}", "lawn-tune doctor looks for the reason."
            )
        if isinstance(error, ValueError | ImportError):
            return UsageError(f"--ray-address: '{self.address}' is not the address of a cluster: {error}", ADDRESSES)
        return UsageError(f"--ray-address: cannot join '{self.address}': {error}", cluster_hint(str(error)))


def _reach(address: str) -> None:
    """Connects to a cluster's head once, as Ray itself waits for one that is gone for minutes.

    Raises:
        UsageError: nothing answers there.
    """
    found = address.removeprefix("ray://")
    with contextlib.suppress(ValueError, ConnectionError):  # Ray's own errors explain these
        found = services.canonicalize_bootstrap_address(found) or found
    host, _, port = found.rpartition("://")[2].rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        named = found if address == found else f"{address} ({found})"
        text = f"--ray-address: no cluster answers at {named}: {error.strerror or error}"
        raise UsageError(
            text, "Start its head with `ray start --head`, or give the address of one that runs."
        ) from None


def _nodes() -> list[dict[str, float]]:
    """Returns what each machine of the cluster has now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _check_resources(slots: Slots, nodes: Sequence[Node]) -> None:
    """Tune would wait forever for what no machine has."""
    if any(slots.on(node) for node in nodes):
        return
    for name, wanted in (("GPU", slots.gpus), ("CPU", float(slots.cpus))):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if most < wanted:
            text = f"a job needs {wanted:g} {name}, and Ray has {most:g}"
            break
    else:
        text = f"a job needs {slots.cpus} CPU and {slots.gpus:g} GPU on one machine, and none of Ray's has both"
    raise ExecutionError(text, hint="Lower --gpus or --gpus-per-trial, or start workers that have them.")


def _needed(address: str | None) -> list[tuple[str, int]]:
    """Returns where the head's store and this machine's Ray process accept connections; nothing through a proxy."""
    if address is not None and address.startswith("ray://"):
        return []
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())  # type: ignore[no-untyped-call]
    return [(host.strip("[]"), int(port)), (here["NodeManagerAddress"], here["NodeManagerPort"])]


def _end() -> None:
    with _quiet():
        patient_ray.shutdown()


def _remove_leftovers(work_dir: Path) -> None:
    """Removes Tune's folders of launches on this machine that were killed; none of their content is ever read."""
    for folder in work_dir.glob(f"ray-*@{socket.gethostname()}-*"):
        pid = folder.name.removeprefix("ray-").partition("@")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallows what Ray and Tune print to Python's stdout; the launch has a display of its own."""
    for name, level in (("ray", logging.ERROR), ("ray.tune", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
