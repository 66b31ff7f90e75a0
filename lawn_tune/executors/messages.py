"""What passes between the launch and its workers, as plain values; torch-free, so that a driver starts quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawn_tune.executors.base import Agenda, Event, Failed, Finished, Job, Progress
from trainables.config import EpochRecord, PackConfig, TrialOutcome

Message = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker must know beside the job; none of it changes a trial's numbers, but for threads by rounding.

    Args:
        data_dir: folder of the data sets, absolute.
        checkpoint_dir: folder of the packs' checkpoints, absolute.
        threads: CPU threads for torch.
        use_gpu: True to train on the GPU that this process can see.
    """

    data_dir: str
    checkpoint_dir: str
    threads: int = 1
    use_gpu: bool = False

    def checkpoint(self, pack: str) -> Path:
        """The checkpoint file of one pack."""
        return Path(self.checkpoint_dir) / f"{pack}.safetensors"


def read_message(job: Job, message: Mapping[str, Any]) -> Event:
    """Returns the event that a message of `work` stands for."""
    if message["kind"] == "progress":
        return Progress(job, [EpochRecord(**record) for record in message["records"]])
    if message["kind"] == "finished":
        return Finished(job, [TrialOutcome(**outcome) for outcome in message["outcomes"]], message["provenance"])
    return Failed(job, message["reason"], message["error"])


def deliver(agenda: Agenda, job: Job, message: Mapping[str, Any], settings: WorkerSettings) -> None:
    """Gives a message to the agenda; once it stored a job's outcomes, the job's checkpoint has had its day."""
    event = read_message(job, message)
    agenda.handle(event)
    if isinstance(event, Finished):
        settings.checkpoint(job.pack).unlink(missing_ok=True)


def write_job(job: Job) -> dict[str, Any]:
    """Returns a job as plain values; `read_job` is the inverse."""
    return {"pack": job.pack, "config": job.config.to_dict()}


def read_job(values: Mapping[str, Any]) -> Job:
    """The inverse of `write_job`."""
    return Job(pack=values["pack"], config=PackConfig.from_dict(values["config"]))
