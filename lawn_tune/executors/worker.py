"""What happens inside a worker: trains one job and sends plain messages; the same code inline and under Ray."""

from __future__ import annotations

import gc
import math
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from lawn_tune.errors import ExecutionError, LedgerError
from lawn_tune.executors.base import Job
from lawn_tune.executors.messages import Message, WorkerSettings
from lawn_tune.executors.provenance import provenance
from lawn_tune.executors.utilization import Utilization
from lawn_tune.executors.watchdog import Watchdog
from lawn_tune.results import UTILIZATION
from trainables import data
from trainables.catalogue.code import CodeError
from trainables.functions.run import FunctionError, FunctionRun
from trainables.optimizers import fused
from trainables.optimizers.classes import OptimizerClassError
from trainables.out_of_memory import memory_ended
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.training.group import GroupRun
from trainables.training.packable import Unpackable
from trainables.training.process_memory import keep_freed_memory
from trainables.training.trial import (
    EpochEnded,
    PackRun,
    Records,
    Resumed,
    Saved,
    StepsEnded,
    Unsaved,
    Unusable,
    Waiting,
    Warned,
    resident_workload,
)
from trainables.workloads.own_code import code_digest, import_code
from trainables.workloads.own_errors import WorkloadError

ALIVE_SECONDS = 60.0
"""Longest time between two reports of a job that takes steps (our choice)."""


def work(
    job: Job,
    settings: WorkerSettings,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool] = lambda: False,
    where: Mapping[str, str] | None = None,
) -> None:
    """Trains one job; sends any number of progress messages, then one that ends it. Errors of a job become a message.

    Args:
        where: what the executor knows of this machine, stored with the trials' provenance.

    Raises:
        ExecutionError: no other job can be trained in this process; sent before was what became of this one.
    """
    started = datetime.now(UTC)
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    device = torch.device("cuda" if settings.use_gpu and torch.cuda.is_available() else "cpu")
    notes = _Notes(settings, where or {})
    try:
        message = _train(job, settings, device, send, should_stop, notes)
    except LedgerError:
        raise  # of the driver, which trains in this process; not the job's fault
    except data.DataError as error:
        message = _failed("data", f"{notes.machine}: {error}")
    except (FunctionError, CodeError) as error:
        message = _failed("error", str(error))
    except WorkloadError as error:
        message = _failed("workload", f"{job.config.task.code_of}: {error}")
    except OptimizerClassError as error:
        message = _failed("class", str(error))
    except Unpackable as error:
        message = _failed("alone", str(error))
    except Exception as error:
        if memory_ended(error):
            message = _failed("memory", f"{device} memory: {error}")
        else:
            message = _failed("error", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    if message["kind"] == "finished":
        message["provenance"] |= provenance(device, started)
    else:  # what it has left behind may be why it failed: cuDNN does not always say that it found no memory
        gc.collect()
    lost = _gpu_lost()
    send(message)
    if lost is not None:
        text = f"{notes.machine}: this process cannot use its GPU any more: {_reason(lost)}"
        raise ExecutionError(text, "The same command continues where it ended.")


def _gpu_lost() -> Exception | None:
    """Gives the memory of a GPU back; returns an error, such as an illegal access, after which it does nothing more."""
    try:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        torch.cuda.empty_cache()  # drivers, libraries and jobs on the same GPU get nothing that torch keeps
    except RuntimeError as error:
        return error
    return None


def _failed(reason: str, error: str) -> Message:
    return {"kind": "failed", "reason": reason, "error": error}


@dataclass
class _Notes:
    """What a job's machine has to report: its name, the epoch of its checkpoint, and texts for the launch to show."""

    settings: WorkerSettings
    where: Mapping[str, str]
    epoch: float = 0
    texts: list[tuple[Literal["warnings", "notes"], str]] = field(default_factory=list)
    sent: int = 0

    @property
    def machine(self) -> str:
        """The machine's name."""
        return self.where.get("node") or socket.gethostname()

    def add(self, event: Resumed | Unusable | Unsaved) -> None:
        """Notes what happened to the pack's checkpoint."""
        if isinstance(event, Resumed):
            self.epoch = event.epoch
        elif isinstance(event, Unsaved):
            self.unsaved(event.error)
        else:
            where = f"{self.settings.checkpoint_dir}/{event.file.name}"
            text = f"the checkpoint {where} cannot be used on {self.machine}: {event.reason}; its pack starts again"
            self.texts.append(("warnings", text))

    def unsaved(self, error: Exception) -> None:
        """Notes once that checkpoints cannot be written."""
        self.warn(f"no checkpoint can be kept in {self.settings.checkpoint_dir} from {self.machine}: {_reason(error)}")

    def warn(self, text: str) -> None:
        """Notes what people should know, once."""
        whole: tuple[Literal["warnings"], str] = (
            "warnings",
            f"{text}; training goes on, and packs that are interrupted start again",
        )
        if whole not in self.texts:
            self.texts.append(whole)

    def note(self, text: str) -> None:
        """Notes what was done on this machine."""
        self.texts.append(("notes", f"{self.machine}: {text}"))

    def take(self) -> dict[str, list[str]]:
        """Returns the texts that were not sent yet, by kind."""
        fresh, self.sent = self.texts[self.sent :], len(self.texts)
        return {kind: [text for of, text in fresh if of == kind] for kind in dict.fromkeys(of for of, _ in fresh)}

    def provenance(self) -> dict[str, Any]:
        """Returns what is kept with the trials."""
        return dict(self.where) | ({"resumed from epoch": self.epoch} if self.epoch else {})


def _reason(error: Exception) -> str:
    """Returns what went wrong without the file's name or a request's number, so that the same reason is logged once."""
    text = getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[0]
    found = re.search(r"AWS Error \w+", text)
    return found[0] if found else text


class _Reports:
    """Sends what a job has done.

    Args:
        send: of `work`; may wait for the launch.
        watchdog: which does not count that wait.
        notes: what is sent along.
    """

    def __init__(
        self, send: Callable[[Message], None], settings: WorkerSettings, watchdog: Watchdog, notes: _Notes
    ) -> None:
        self._send, self._watchdog, self._notes = send, watchdog, notes
        self._seconds = min(ALIVE_SECONDS, settings.progress_seconds / 4 or ALIVE_SECONDS)
        self._sent = -math.inf

    def send(self, records: Sequence[EpochRecord]) -> None:
        """Sends the records of epochs."""
        self._sent = time.monotonic()
        with self._watchdog.paused():
            found = [asdict(record) for record in records]
            self._send({"kind": "progress", "records": found} | self._notes.take())

    def steps_ended(self) -> None:
        """Within a long epoch sends that it goes on: so the launch knows where, and does not take it for a hang."""
        if time.monotonic() - self._sent >= self._seconds:
            self.send([])


@contextmanager
def _checkpoint(job: Job, settings: WorkerSettings, notes: _Notes) -> Iterator[Path | None]:
    """Lends the file of the pack's checkpoint; None where its place cannot be read."""
    with ExitStack() as stack:
        file = None
        try:
            file = stack.enter_context(settings.checkpoints.open(job.pack))
        except OSError as error:
            notes.unsaved(error)
        if file and settings.token and not (file.parent / settings.token).exists():
            notes.warn(f"{settings.checkpoint_dir} on {notes.machine} is not the folder that the launch sees")
        yield file


def _train(
    job: Job,
    settings: WorkerSettings,
    device: torch.device,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool],
    notes: _Notes,
) -> Message:
    """Trains a job and returns the message that ends it."""
    if device.type == "cpu":
        for line in _kernel_lines():
            notes.note(line)
    _bring_data(job, settings, device, notes)
    watched = settings.progress_seconds if settings.expendable and not job.config.task.by_function else 0.0
    with _checkpoint(job, settings, notes) as checkpoint, Watchdog(watched) as watchdog:
        run, reports = _run(job, settings, device, checkpoint), _Reports(send, settings, watchdog, notes)
        trained, utilization = 0, Utilization(device)
        for event in run:
            if isinstance(event, EpochEnded | StepsEnded | Waiting):
                if isinstance(event, EpochEnded):
                    trained = event.epoch
                if not isinstance(event, Waiting):
                    watchdog.moved()
                if isinstance(event, StepsEnded):
                    reports.steps_ended()
                if should_stop():
                    run.stop()
            elif isinstance(event, Records):
                utilization.look()
                reports.send(event.records)
            elif isinstance(event, Saved):
                _keep(job, settings, run, event, notes)
            elif isinstance(event, Warned):
                notes.texts.append(("warnings", event.text))
            else:
                notes.add(event)
    if run.outcomes is None:
        return _failed("stopped", f"stopped after epoch {trained} of {job.config.task.epochs}")
    found = notes.provenance() | _of_run(job, settings, run, run.outcomes)
    # the time of a training function, or of several processes, is not this one's
    if isinstance(run, PackRun) and (share := utilization.share()) is not None:
        found |= {UTILIZATION: share}
    return {"kind": "finished", "outcomes": [asdict(outcome) for outcome in run.outcomes], "provenance": found}


Run = PackRun | GroupRun | FunctionRun


def _run(job: Job, settings: WorkerSettings, device: torch.device, checkpoint: Path | None) -> Run:
    """Returns the run of a job: of a pack, by one process or several, or of a training function."""
    task = job.config.task
    common: dict[str, Any] = {
        "data_dir": Path(settings.data_dir),
        "device": device,
        "checkpoint": checkpoint,
        "checkpoint_seconds": settings.checkpoint_seconds,
        "report_seconds": settings.report_seconds,
    }
    if task.by_function:
        common |= {"threads": settings.threads, "progress_seconds": settings.progress_seconds}
        return FunctionRun(job.config, settings.code[task.code], **common)
    common |= {"flattening": settings.flattening, "checkpoint_steps": settings.checkpoint_steps}
    code = settings.code[task.code] if task.code else b""
    named = task.dataset_row.workload if task.dataset_row.code else task.optimizer_class
    if settings.ranks > 1:
        return GroupRun(job.config, settings.ranks, **common, threads=settings.threads, code=code, named=named)
    if code:
        import_code(code, named)
    return PackRun(job.config, **common)


def _of_run(job: Job, settings: WorkerSettings, run: Run, outcomes: Sequence[TrialOutcome]) -> dict[str, Any]:
    """Returns what is kept with the trials of a run: what it constrained, and its data and code."""
    task = job.config.task
    found: dict[str, Any] = {
        "constrained tensors": ", ".join(outcomes[0].constrained),
        "data sha256": task.dataset_row.digest,
        "references": run.references,
        "code": code_digest(settings.code[task.code]) if task.code else "",
    }
    if isinstance(run, FunctionRun):
        found["output"] = run.output
    elif run.digest:
        found["data sha256"] = run.digest
    if isinstance(run, GroupRun):
        found["processes"] = run.count
    return {name: value for name, value in found.items() if value}


def _keep(job: Job, settings: WorkerSettings, run: Run, saved: Saved, notes: _Notes) -> None:
    """Brings a checkpoint to where other machines find it."""
    try:
        settings.checkpoints.keep(job.pack, saved.file)
    except OSError as error:
        run.postpone_checkpoints()
        notes.unsaved(error)


@cache
def _kernel_lines() -> tuple[str, ...]:
    """Builds the optimizer kernels if this machine has none yet, once a process; returns the lines to show of it."""
    lines: list[str] = []
    fused.build_kernels(lines.append)
    return tuple(lines)


def _bring_data(job: Job, settings: WorkerSettings, device: torch.device, notes: _Notes) -> None:
    """Downloads what cannot be read here, if allowed: of this machine's workers one does, and the others wait."""
    if not settings.fetch_data or job.config.task.dataset_row.code:
        return
    task, folder = job.config.task, Path(settings.data_dir)
    try:
        resident_workload(task, folder, device)
    except data.DataError:
        if data.fetch_once(task.dataset, folder, task.catalogue.datasets):
            notes.note(f"data set '{task.dataset}' was fetched into {folder}")
