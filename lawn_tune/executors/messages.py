"""What passes between the launch and its workers, as plain values; torch-free, so that a driver starts quickly."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lawn_tune.executors import checkpoints
from lawn_tune.executors.base import Agenda, Event, Failed, Finished, Job, Progress
from lawn_tune.settings import Settings
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import PackConfig

Message = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker must know besides the job; none of it changes a trial's numbers, except threads, by rounding.

    Args:
        data_dir: folder of the data sets, absolute.
        checkpoint_dir: place of the packs' checkpoints: an absolute folder, or a URL as `checkpoints.open_store` takes.
        checkpoint_seconds: minimum time between two checkpoints of a pack, s.
        checkpoint_steps: steps after which a pack writes one as well; 0 for none.
        token: name of a file that the launch put there, so that workers can check whether they see its folder; "" for
            none.
        fetch_data: True to download a data set that is missing or damaged on the worker's machine.
        threads: CPU threads for torch.
        use_gpu: True to train on the GPUs that this process can see.
        ranks: processes that train a pack together, each on a GPU of its own.
        report_seconds: minimum time between two progress messages of a job, s.
        flattening: True to measure loss flattening after each epoch.
        progress_seconds: a job is ended when no step of it, or epoch of a training function, ends for this long; 0
            lets it hang.
        expendable: whether the worker's process may end with a job that hangs, see `Watchdog`; False for the launch's.
        code: digest of the source files of a training function, a workload or an optimizer class → these as a .zip.
    """

    data_dir: str
    checkpoint_dir: str
    checkpoint_seconds: float = Settings.checkpoint_seconds
    checkpoint_steps: int = Settings.checkpoint_steps
    token: str = ""
    fetch_data: bool = Settings.fetch_data
    threads: int = 1
    use_gpu: bool = False
    ranks: int = 1
    report_seconds: float = 0.5
    flattening: bool = Settings.flattening
    progress_seconds: float = 60 * Settings.progress_timeout
    expendable: bool = True
    code: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def checkpoints(self) -> checkpoints.Store:
        """Where checkpoints are kept."""
        return checkpoints.open_store(self.checkpoint_dir)


def read_message(job: Job, message: Mapping[str, Any]) -> Event:
    """Returns the event that a message of `work` means."""
    if message["kind"] == "progress":
        records = [EpochRecord(**record) for record in message["records"]]
        return Progress(job, records, message.get("warnings", ()), message.get("notes", ()))
    if message["kind"] == "finished":
        return Finished(job, [TrialOutcome(**outcome) for outcome in message["outcomes"]], message["provenance"])
    return Failed(job, message["reason"], message["error"])


def deliver(agenda: Agenda, job: Job, message: Mapping[str, Any], settings: WorkerSettings) -> None:
    """Passes a message to the agenda; once it stored a job's outcomes, the job's checkpoint is no longer needed."""
    event = read_message(job, message)
    agenda.handle(event)
    if isinstance(event, Finished):
        with suppress(OSError):
            settings.checkpoints.remove(job.pack)


def write_job(job: Job) -> dict[str, Any]:
    """Returns a job as plain values; `read_job` is the inverse."""
    return {"pack": job.pack, "config": job.config.to_dict()}


def read_job(values: Mapping[str, Any]) -> Job:
    """The inverse of `write_job`."""
    return Job(pack=values["pack"], config=PackConfig.from_dict(values["config"]))
