"""Trains packs on Ray Tune: one experiment, one Tune trial a job, actors reused. The only file that knows Ray.

Jobs come from a searcher that asks the agenda, so confirm runs start as soon as their cell is searched, and a pack that
was too large comes back as two. Tune keeps no state of ours: nothing is restored from its pickles, and a launch that
was killed is continued from the ledger.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})

import ray  # noqa: E402 - reads the environment when imported
from ray import tune  # noqa: E402
from ray.tune.experiment import Trial  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.tune.stopper import Stopper  # noqa: E402

from lawn_tune.errors import ExecutionError, UsageError  # noqa: E402
from lawn_tune.executors.base import Agenda, Failed, Job, Nothing  # noqa: E402
from lawn_tune.executors.messages import WorkerSettings, deliver, read_job, write_job  # noqa: E402

ADDRESSES = "Give HOST:PORT of the cluster's head, or auto on one of its machines."


@dataclass(frozen=True, kw_only=True)
class RayTuneExecutor:
    """Runs jobs as Tune trials, on a local Ray that it starts and ends, or on a running cluster.

    Args:
        settings: what every worker must know.
        slots: jobs at once.
        cpus: CPU cores of a job.
        gpus: GPUs of a job; fractions share one.
        work_dir: folder for Tune's own files, removed afterwards.
        total_gpus: GPUs of this machine, or None to count them; ignored with an address.
        address: of a running Ray cluster, or None to start Ray here.
    """

    settings: WorkerSettings
    slots: int
    cpus: int
    gpus: float
    work_dir: Path
    total_gpus: int | None = None
    address: str | None = None

    def run(self, agenda: Agenda) -> None:
        """See `Executor.run`."""
        _remove_leftovers(self.work_dir)
        folder = self.work_dir.resolve() / f"ray-{os.getpid()}@{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        jobs = _OpenJobs(agenda, self.settings)
        try:
            with _quiet(), self._ray():
                self._tuner(jobs, folder).fit()
        except (ray.exceptions.RayError, tune.TuneError, ConnectionError) as error:
            raise ExecutionError(f"Ray stopped: {error}", hint="The same command continues where it ended.") from error
        finally:
            jobs.give_up("stopped" if agenda.stopping else "error", "Ray ended before the job did")
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _ray(self) -> Iterator[None]:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        local = {"num_cpus": self.cpus * self.slots, "num_gpus": self.total_gpus, "include_dashboard": False}
        try:
            ray.init(**common, **(local if self.address is None else {"address": self.address}))
        except (ValueError, ImportError) as error:
            raise UsageError(f"--ray-address: '{self.address}' is no cluster's address: {error}", ADDRESSES) from None
        try:
            self._check_resources(ray.cluster_resources())  # type: ignore[no-untyped-call]
            yield
        finally:
            ray.shutdown()

    def _check_resources(self, found: dict[str, float]) -> None:
        """Tune would wait for ever for what no node has."""
        for name, wanted in (("CPU", float(self.cpus)), ("GPU", self.gpus)):
            if found.get(name, 0.0) < wanted:
                text = f"a job wants {wanted:g} {name}, and Ray has {found.get(name, 0.0):g}"
                raise ExecutionError(text, hint="Lower --gpus, or start workers that have them.")

    def _tuner(self, jobs: _OpenJobs, folder: Path) -> tune.Tuner:
        trainable = tune.with_parameters(_train_job, settings=asdict(self.settings))
        return tune.Tuner(
            tune.with_resources(trainable, {"cpu": self.cpus, "gpu": self.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=_AgendaSearcher(jobs),
                num_samples=-1,
                max_concurrent_trials=self.slots,
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


class _OpenJobs:
    """The jobs handed to Tune and not ended yet, by Tune's trial id. Tune's pickled snapshots hold an empty one."""

    def __init__(self, agenda: Agenda | None, settings: WorkerSettings) -> None:
        self.agenda, self.settings = agenda, settings
        self.jobs: dict[str, Job] = {}

    def __reduce__(self) -> tuple[Callable[..., _OpenJobs], tuple[None, WorkerSettings]]:
        return (_OpenJobs, (None, self.settings))

    def next_config(self, trial_id: str) -> dict[str, Any] | str | None:
        assert self.agenda is not None
        job = self.agenda.next_job()
        if isinstance(job, Nothing):
            return str(Searcher.FINISHED) if job is Nothing.EVER else None
        self.jobs[trial_id] = job
        return {"job": json.dumps(write_job(job))}

    def handle(self, trial_id: str, message: dict[str, Any]) -> None:
        assert self.agenda is not None
        if trial_id not in self.jobs:
            return
        job = self.jobs[trial_id] if message["kind"] == "progress" else self.jobs.pop(trial_id)
        deliver(self.agenda, job, message, self.settings)

    def lose(self, trial_id: str, error: str) -> None:
        if self.agenda is not None and (job := self.jobs.pop(trial_id, None)) is not None:
            self.agenda.handle(Failed(job, "error", error))

    def give_up(self, reason: Any, error: str) -> None:
        for trial_id in list(self.jobs):
            if self.agenda is not None:
                self.agenda.handle(Failed(self.jobs.pop(trial_id), reason, error))


class _AgendaSearcher(Searcher):
    """Hands Tune the agenda's next job whenever a slot is free."""

    def __init__(self, jobs: _OpenJobs) -> None:
        super().__init__(metric=None, mode=None)
        self._jobs = jobs

    def suggest(self, trial_id: str) -> Any:
        return self._jobs.next_config(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A job that reported its end is no longer open: what Tune calls an error is a worker that died before."""
        if error:
            self._jobs.lose(trial_id, "the worker process ended")

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a launch continues from the ledger."""


class _AgendaStopper(Stopper):
    """Ends the experiment as soon as the launch is stopping."""

    def __init__(self, jobs: _OpenJobs) -> None:
        self._jobs = jobs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._jobs.agenda is not None and self._jobs.agenda.stopping


class _AgendaCallback(tune.Callback):
    """Passes what workers report to the agenda, in the driver."""

    def __init__(self, jobs: _OpenJobs) -> None:
        self._jobs = jobs

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if "message" in result:
            self._jobs.handle(trial.trial_id, result["message"])


def _train_job(config: dict[str, Any], settings: dict[str, Any]) -> None:
    # Here, as it brings torch: the driver imports this file too and starts quicker without.
    from lawn_tune.executors.worker import work

    job = read_job(json.loads(config["job"]))
    work(job, WorkerSettings(**settings), send=lambda message: tune.report({"message": message}))


def _remove_leftovers(work_dir: Path) -> None:
    """Removes Tune's folders of launches on this machine that were killed; none of their content is ever read."""
    for folder in work_dir.glob(f"ray-*@{socket.gethostname()}-*"):
        pid = folder.name.removeprefix("ray-").partition("@")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _trial_name(trial: Trial) -> str:
    return str(trial.trial_id)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallows what Ray and Tune print to Python's stdout; the launch has a display of its own."""
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
