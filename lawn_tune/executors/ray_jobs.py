"""The launch's jobs as Ray Tune sees them: a searcher that asks the agenda, and a callback that passes it the results.

Apart from `ray_tune.py` because Tune takes half a second to import, which is spent while Ray's own processes start.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.experimental import internal_kv
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from lawn_tune.executors.base import Agenda, Failed, Job, Nothing
from lawn_tune.executors.head_watch import accepts
from lawn_tune.executors.memory_need import memory_need
from lawn_tune.executors.messages import WorkerSettings, deliver, read_job, write_job
from lawn_tune.executors.slots import Room, Slots

MEMORY = ("OutOfMemoryError", "memory usage threshold", "low on memory")
"""Ray's errors for a worker that it, or the system, ended for its memory."""


NODE_GONE = ("node has died", "node was terminated", "node was preempted", "node is dead")
"""Ray's errors for a worker whose machine is lost, once it noticed."""

DESERTED = 600.0
"""Seconds without a machine that could take a job after which a launch gives up (our choice)."""

STOP_SECONDS = 6.0
"""How long jobs in training have to end their epoch and write a checkpoint when the launch stops (our choice): Docker
kills after 10. Those that take longer continue from the checkpoint before."""

ASK_SECONDS = 0.5
"""Time between two looks of a worker at whether the launch is stopping."""

MANY = 100_000
"""More jobs than any cluster holds: `OpenJobs.room` limits them instead."""


def tuner(jobs: OpenJobs, folder: Path, slots: Slots) -> tune.Tuner:
    """Returns the experiment that works the jobs off.

    Args:
        jobs: where jobs come from and messages go.
        folder: for Tune's own files.
        slots: what each job takes, and how many run at once where the jobs have no room of their own.
    """
    trainable = tune.with_parameters(_train_job, settings=asdict(jobs.settings), stop=jobs.stop.name)
    return tune.Tuner(
        tune.with_resources(trainable, partial(_resources, slots=slots)),
        tune_config=tune.TuneConfig(
            search_alg=_AgendaSearcher(jobs),
            num_samples=-1,
            max_concurrent_trials=slots.count if jobs.room is None else MANY,
            reuse_actors=True,
            trial_dirname_creator=_trial_name,
            trial_name_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="jobs",
            storage_path=str(folder),
            verbose=0,
            stop=_AgendaStopper(jobs),
            callbacks=[_AgendaCallback(jobs)],
        ),
    )


def _resources(config: dict[str, Any], slots: Slots) -> tune.PlacementGroupFactory:
    """Returns what Ray must find free on one machine for a job; actors are reused by jobs that ask for the same."""
    wanted = {"CPU": slots.cpus, "GPU": slots.gpus, "memory": config["memory"]}
    return tune.PlacementGroupFactory([{name: value for name, value in wanted.items() if value}])


@dataclass
class _Open:
    """A job with Tune.

    Args:
        job: what was handed out.
        memory: bytes that it asked for, 0 where jobs ask for none.
        last_report: when it began or last reported, by the monotonic clock.
        node: id of the machine that last reported, "" before.
    """

    job: Job
    memory: float
    last_report: float
    node: str = ""


class StopRequest:
    """Asks the workers of one launch, wherever they are, to end their jobs with a checkpoint: a key in Ray's own store.

    Both sides wait for that store in threads only: a launch that stops does not, and neither does training.

    Args:
        name: of the key, or "" for a new one.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name or f"lawn-tune-stop-{uuid.uuid4().hex}"
        self._sent: float | None = None

    @property
    def over(self) -> bool:
        """Sends it the first time; true once the workers had their time."""
        if self._sent is None:
            self._sent = time.monotonic()
            threading.Thread(target=self._put, name="stop-request", daemon=True).start()
        return time.monotonic() - self._sent > STOP_SECONDS

    def _put(self) -> None:
        with suppress(ray.exceptions.RayError):
            internal_kv._internal_kv_put(self.name, b"1")

    @contextmanager
    def heard(self) -> Iterator[Callable[[], bool]]:
        """In a worker: lends a function that returns whether it was sent."""
        sent, done = threading.Event(), threading.Event()

        def ask() -> None:
            with suppress(ray.exceptions.RayError):
                while not (done.wait(ASK_SECONDS) or sent.is_set()):
                    if internal_kv._internal_kv_exists(self.name):
                        sent.set()

        threading.Thread(target=ask, name="stop-request", daemon=True).start()
        try:
            yield sent.is_set
        finally:
            done.set()


class OpenJobs:
    """The jobs handed to Tune and not ended yet, by Tune's trial id. Tune's pickled snapshots hold an empty one."""

    def __init__(self, agenda: Agenda | None, settings: WorkerSettings) -> None:
        self.agenda, self.settings = agenda, settings
        self.room: Room | None = None
        self.stop = StopRequest()
        self.jobs: dict[str, _Open] = {}

    def __reduce__(self) -> tuple[Callable[..., OpenJobs], tuple[None, WorkerSettings]]:
        return (OpenJobs, (None, self.settings))

    def next_config(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next job as a Tune configuration, Tune's word for the end, or None for not now."""
        assert self.agenda is not None
        if self.room is not None and len(self.jobs) >= self.room.jobs(self._most_memory()):
            return None
        job = self.agenda.next_job()
        if isinstance(job, Nothing):
            return str(Searcher.FINISHED) if job is Nothing.EVER else None
        memory = 0.0
        if self.room is not None:
            need = memory_need(job.config, gpu=self.room.slots.gpus > 0, ranks=self.settings.ranks)
            memory = self.room.memory(need)
        self.jobs[trial_id] = _Open(job, memory, last_report=time.monotonic())
        return {"job": json.dumps(write_job(job)), "memory": memory}

    def _most_memory(self) -> float:
        """Returns the most that an open job asked for, bytes: what the next one is likely to ask for."""
        return max((opened.memory for opened in self.jobs.values()), default=0.0)

    def handle(self, trial_id: str, message: dict[str, Any], node: str = "") -> None:
        """Passes on a worker's message about an open job, and records the id of its machine."""
        assert self.agenda is not None
        if trial_id not in self.jobs:
            return
        opened = self.jobs[trial_id] if message["kind"] == "progress" else self.jobs.pop(trial_id)
        deliver(self.agenda, opened.job, message, self.settings)
        opened.last_report, opened.node = time.monotonic(), node

    def lose(self, trial_id: str, error: str) -> None:
        """Reports a job whose worker process ended, by Ray's error."""
        if self.agenda is not None and (opened := self.jobs.pop(trial_id, None)) is not None:
            self.agenda.handle(self._loss(opened, error))

    def _loss(self, opened: _Open, error: str) -> Failed:
        if self.room is not None and (any(words in error for words in NODE_GONE) or _gone(opened.node)):
            return Failed(opened.job, "lost", "the machine that trained it was lost")
        text = "the worker process ended"
        if any(words in error for words in MEMORY):
            return Failed(opened.job, "memory", f"{text}: its machine ran out of memory")
        silent, limit = time.monotonic() - opened.last_report, self.settings.progress_seconds
        if limit and silent >= limit:
            text += f": no step ended for {silent:.0f} s (--progress-timeout)"
        return Failed(opened.job, "error", text)

    @property
    def over(self) -> bool:
        """True once Tune should end: without a machine, or stopping and every job that trains had time to save."""
        if self.agenda is None or not self.agenda.stopping:
            return self.deserted
        return not any(opened.node for opened in self.jobs.values()) or self.stop.over

    @property
    def deserted(self) -> bool:
        """True once no machine of a cluster could take a job for long."""
        return self.room is not None and self.room.seconds_without > DESERTED

    def wanted(self, trial_id: str) -> bool:
        """True while the agenda still wants a job."""
        return self.agenda is None or trial_id not in self.jobs or self.agenda.wanted(self.jobs[trial_id].job)

    def leave(self, trial_id: str) -> None:
        """Reports a job that was ended because the agenda no longer wants it."""
        if self.agenda is not None and (opened := self.jobs.pop(trial_id, None)) is not None:
            self.agenda.handle(Failed(opened.job, "stopped", "no longer wanted"))

    def give_up(self, reason: Any, error: str) -> None:
        """Reports every open job as failed."""
        for trial_id in list(self.jobs):
            if self.agenda is not None:
                self.agenda.handle(Failed(self.jobs.pop(trial_id).job, reason, error))


class _AgendaSearcher(Searcher):
    """Hands Tune the agenda's next job whenever a slot is free."""

    def __init__(self, jobs: OpenJobs) -> None:
        super().__init__(metric=None, mode=None)
        self._jobs = jobs

    def suggest(self, trial_id: str) -> Any:
        return self._jobs.next_config(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A job that reported its end is no longer open; `_AgendaCallback` learns why Tune reports one as an error."""
        if not error:
            self._jobs.leave(trial_id)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a launch continues from the ledger."""


class _AgendaStopper(Stopper):
    """Ends the experiment as soon as the launch is stopping, and single jobs that are no longer wanted."""

    def __init__(self, jobs: OpenJobs) -> None:
        self._jobs = jobs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return not self._jobs.wanted(trial_id)

    def stop_all(self) -> bool:
        return self._jobs.over


class _AgendaCallback(tune.Callback):
    """Passes what workers report to the agenda, in the driver."""

    def __init__(self, jobs: OpenJobs) -> None:
        self._jobs = jobs

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if "message" in result:
            self._jobs.handle(trial.trial_id, result["message"], result["node"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The worker died before its job ended."""
        file = Path(trial.error_file) if trial.error_file else None
        self._jobs.lose(trial.trial_id, file.read_text() if file and file.exists() else "")


def _train_job(config: dict[str, Any], settings: dict[str, Any], stop: str) -> None:
    # Here, as it brings torch: the driver imports this file too and starts quicker without.
    from lawn_tune.executors.worker import work

    job = read_job(json.loads(config["job"]))
    here = ray.get_runtime_context().get_node_id()
    with StopRequest(stop).heard() as should_stop:
        work(
            job,
            WorkerSettings(**settings),
            send=lambda message: tune.report({"message": message, "node": here}),
            should_stop=should_stop,
            where={"node": _name(here)},
        )


@cache
def _name(here: str) -> str:
    """Returns the name that a machine has in the cluster, with the first letters of its id."""
    names = {node["NodeID"]: node.get("NodeName") or node["NodeManagerHostname"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    return f"{names.get(here, socket.gethostname())} ({here[:8]})"


def _gone(node: str) -> bool:
    """True if a machine (or any, if "" names none) is dead or does not answer: Ray notices only later."""
    machines = [machine for machine in ray.nodes() if node in ("", machine["NodeID"])]  # type: ignore[no-untyped-call]
    if node and not any(machine["Alive"] for machine in machines):
        return True
    addresses = [(found["NodeManagerAddress"], found["NodeManagerPort"]) for found in machines if found["Alive"]]
    return not all(map(accepts, addresses))


def _trial_name(trial: Trial) -> str:
    return str(trial.trial_id)
