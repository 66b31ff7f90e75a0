"""The launch's jobs as Ray Tune sees them: a searcher that asks the agenda, and a callback that tells it the results.

Apart from `ray_tune.py` because Tune takes half a second to import, which is spent while Ray's own processes start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from lawn_tune.executors.base import Agenda, Failed, Job, Nothing
from lawn_tune.executors.messages import WorkerSettings, deliver, read_job, write_job


def tuner(jobs: OpenJobs, folder: Path, *, slots: int, cpus: int, gpus: float) -> tune.Tuner:
    """Returns the experiment that works the jobs off.

    Args:
        jobs: where jobs come from and messages go.
        folder: for Tune's own files.
        slots: jobs at once.
        cpus, gpus: of each job.
    """
    trainable = tune.with_parameters(_train_job, settings=asdict(jobs.settings))
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=_AgendaSearcher(jobs),
            num_samples=-1,
            max_concurrent_trials=slots,
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


class OpenJobs:
    """The jobs handed to Tune and not ended yet, by Tune's trial id. Tune's pickled snapshots hold an empty one."""

    def __init__(self, agenda: Agenda | None, settings: WorkerSettings) -> None:
        self.agenda, self.settings = agenda, settings
        self.jobs: dict[str, Job] = {}

    def __reduce__(self) -> tuple[Callable[..., OpenJobs], tuple[None, WorkerSettings]]:
        return (OpenJobs, (None, self.settings))

    def next_config(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next job as a Tune configuration, Tune's word for the end, or None for not now."""
        assert self.agenda is not None
        job = self.agenda.next_job()
        if isinstance(job, Nothing):
            return str(Searcher.FINISHED) if job is Nothing.EVER else None
        self.jobs[trial_id] = job
        return {"job": json.dumps(write_job(job))}

    def handle(self, trial_id: str, message: dict[str, Any]) -> None:
        """Passes on what a worker said of an open job."""
        assert self.agenda is not None
        if trial_id not in self.jobs:
            return
        job = self.jobs[trial_id] if message["kind"] == "progress" else self.jobs.pop(trial_id)
        deliver(self.agenda, job, message, self.settings)

    def lose(self, trial_id: str, error: str) -> None:
        """Reports a job whose worker is gone."""
        if self.agenda is not None and (job := self.jobs.pop(trial_id, None)) is not None:
            self.agenda.handle(Failed(job, "error", error))

    def give_up(self, reason: Any, error: str) -> None:
        """Reports every open job as failed."""
        for trial_id in list(self.jobs):
            if self.agenda is not None:
                self.agenda.handle(Failed(self.jobs.pop(trial_id), reason, error))


class _AgendaSearcher(Searcher):
    """Hands Tune the agenda's next job whenever a slot is free."""

    def __init__(self, jobs: OpenJobs) -> None:
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

    def __init__(self, jobs: OpenJobs) -> None:
        self._jobs = jobs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._jobs.agenda is not None and self._jobs.agenda.stopping


class _AgendaCallback(tune.Callback):
    """Passes what workers report to the agenda, in the driver."""

    def __init__(self, jobs: OpenJobs) -> None:
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


def _trial_name(trial: Trial) -> str:
    return str(trial.trial_id)
