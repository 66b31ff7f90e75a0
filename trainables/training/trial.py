"""One run of a pack: load, resume, train, report, finish.

`python -m trainables.training.trial pack.json` runs it alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from trainables import ranks
from trainables.optimizers.fused import build_kernels
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import PackConfig, Task
from trainables.training.checkpoint import UnusableCheckpoint, load_checkpoint, save_checkpoint
from trainables.training.loop import Training
from trainables.training.outcomes import outcomes
from trainables.training.packable import check_packs
from trainables.training.peak_memory import reset_peak_memory
from trainables.training.process_memory import keep_freed_memory
from trainables.training.seeding import make_deterministic
from trainables.training.tensor_file import UNWRITABLE
from trainables.workloads import build_workload
from trainables.workloads.base import Workload

LOOK = 8
"""Steps after which several ranks agree whether to pause: each time takes a message between them."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint brought the pack to where so many epochs are trained, of the last one perhaps a part."""

    epoch: float


@dataclass(frozen=True)
class Unusable:
    """There is a checkpoint, but it cannot be used; the pack starts again."""

    file: Path
    reason: str


@dataclass(frozen=True)
class EpochEnded:
    """An epoch was trained. `PackRun.stop` ends the run after it."""

    epoch: int


@dataclass(frozen=True)
class StepsEnded:
    """Steps of an epoch were trained, but not all. `PackRun.stop` ends the run after them."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written. Who copies it and cannot calls `PackRun.postpone_checkpoints`."""

    file: Path


@dataclass(frozen=True)
class Unsaved:
    """A checkpoint could not be written; training goes on."""

    error: Exception


@dataclass(frozen=True)
class Records:
    """The records of epochs since the last ones; after a resume the first ones repeat the epochs before it."""

    records: list[EpochRecord]


@dataclass(frozen=True)
class Warned:
    """Something that the user should know, though training goes on; of training functions."""

    text: str


@dataclass(frozen=True)
class Waiting:
    """Nothing has happened for a moment; of training functions, which run elsewhere."""


Event = Resumed | Unusable | EpochEnded | StepsEnded | Saved | Unsaved | Records | Warned | Waiting


class PackRun:
    """Trains every trial of a pack; iterating it, once, yields what happens.

    `for event in run` trains up to the next event. It ends when all trials have ended, and `outcomes` is set, or after
    `stop`, and it is None.

    Args:
        config: the pack.
        data_dir: folder of the data sets.
        device: where to train.
        checkpoint: file to resume from and to write, or None for neither; deleted once the outcomes are stored.
        checkpoint_seconds: minimum time between two writes, s; doubled by every write that failed.
        checkpoint_steps: a write after each so many steps as well, until one failed; 0 for none.
        report_seconds: minimum time between two `Records`, s.
        pause_seconds: minimum time between two events within an epoch, s.
        flattening: whether to measure loss flattening after each epoch, see `trainables.training.flattening`.

    Iterating raises:
        torch.OutOfMemoryError: the pack does not fit the device.
        ValueError: the data is missing or does not fit the task.
        Unpackable: the workload is a user's, and trials of it cannot be trained at once.
    """

    def __init__(
        self,
        config: PackConfig,
        *,
        data_dir: Path,
        device: torch.device,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 30.0,
        checkpoint_steps: int = 0,
        report_seconds: float = 0.5,
        pause_seconds: float = 2.0,
        flattening: bool = False,
    ) -> None:
        self.config, self.data_dir, self.device, self.flattening = config, data_dir, device, flattening
        self.checkpoint, self.checkpoint_seconds = checkpoint, checkpoint_seconds
        self.checkpoint_steps, self._postponed = checkpoint_steps, False
        self.report_seconds, self.pause_seconds = report_seconds, pause_seconds
        self.outcomes: list[TrialOutcome] | None = None
        """Of all trials in the pack's order, once they ended."""
        self.references: Mapping[str, Mapping[str, float]] = {}
        """See `Workload.references`; measured when the data is there."""
        self.digest = ""
        """See `Workload.digest`."""
        self._stopping = False

    def stop(self) -> None:
        """Ends the run after the steps that ended last; a checkpoint is written first, if there may be one."""
        self._stopping = True

    def postpone_checkpoints(self) -> None:
        """Doubles the time between two checkpoints, as they cannot be kept; from now on none is written by steps."""
        self.checkpoint_seconds *= 2
        self._postponed = True

    def __iter__(self) -> Iterator[Event]:
        make_deterministic(self.config.members[0].seed)
        reset_peak_memory(self.device)
        workload = resident_workload(self.config.task, self.data_dir, self.device)
        if self.config.task.code and len(self.config.members) > 1:
            check_packs(self.config, workload, self.device)
        self.references, self.digest = workload.references(), workload.digest
        training = Training(self.config, workload, self.device, self.flattening)
        spent = yield from self._resume(training)
        try:
            yield from self._train(training, time.monotonic() - spent)
        finally:
            training.pack.end()

    def _train(self, training: Training, start: float) -> Iterator[Event]:
        written, reported, sent = time.monotonic(), 0.0, 0
        while not training.finished:
            for ended in self._epoch(training):
                now = time.monotonic()
                yield ended
                due = now - written >= self.checkpoint_seconds or (self._is_due(training) and not self._postponed)
                stop, save = ranks.agreed(self._stopping, due, device=self.device)
                if not training.finished and (stop or save):
                    yield from self._save(training, now - start)
                    written = time.monotonic()
                if stop and not training.finished:
                    return
            if now - reported >= self.report_seconds or training.finished:
                yield Records(training.records[sent:])
                reported, sent = now, len(training.records)
        self.outcomes = outcomes(training, time.monotonic() - start)

    def _epoch(self, training: Training) -> Iterator[StepsEnded | EpochEnded]:
        """Trains an epoch; yields where it may be interrupted."""
        looked = time.monotonic()
        for step, _ in enumerate(training.steps(), 1):
            due = self._is_due(training)
            if step % LOOK and ranks.count() > 1 and not due:
                continue
            (pause,) = ranks.agreed(due or time.monotonic() - looked >= self.pause_seconds, device=self.device)
            if pause:
                yield StepsEnded()
                looked = time.monotonic()
        yield EpochEnded(training.epoch)

    def _is_due(self, training: Training) -> bool:
        """Whether the number of steps asks for a checkpoint; the same on every rank."""
        return self.checkpoint_steps > 0 and training.steps_done % self.checkpoint_steps == 0

    def _resume(self, training: Training) -> Generator[Event, None, float]:
        """Loads the checkpoint, if there is one; returns the seconds of training spent before."""
        if self.checkpoint is None:
            return 0.0
        try:
            spent = load_checkpoint(self.checkpoint, training)
        except UnusableCheckpoint as error:
            yield Unusable(self.checkpoint, str(error))
            spent = None
        done = training.steps_done
        (first,) = ranks.agreed(done, device=self.device)
        if first != done:
            raise OSError(f"{self.checkpoint}: read as of step {first} by one process and of {done} by another")
        if spent is None:
            return 0.0
        part = training.running.done / training.steps_per_epoch if training.running else 0
        yield Resumed(training.epoch + part)
        return spent

    def _save(self, training: Training, seconds: float) -> Iterator[Event]:
        if self.checkpoint is None or ranks.rank() > 0 or not training.sound:
            return
        try:
            save_checkpoint(self.checkpoint, training, seconds)
        except UNWRITABLE as error:
            self.postpone_checkpoints()
            yield Unsaved(error)
        else:
            yield Saved(self.checkpoint)


@lru_cache(maxsize=1)
def resident_workload(task: Task, data_dir: Path, device: torch.device) -> Workload:
    """Returns the workload of a task, built once for all packs of a cell that a worker trains in a row."""
    return build_workload(task, data_dir, device)


def main() -> None:
    """Trains the pack of a JSON file and prints one JSON line per report and outcome."""
    parser = argparse.ArgumentParser(description="Train one pack without the service.")
    parser.add_argument("pack", type=Path, help="JSON file as written by PackConfig.to_dict")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    config = PackConfig.from_dict(json.loads(options.pack.read_text()))
    keep_freed_memory()
    build_kernels()
    run = PackRun(config, data_dir=options.data_dir, device=torch.device(options.device), checkpoint=options.checkpoint)
    for event in run:
        if isinstance(event, Records):
            print(json.dumps([asdict(record) for record in event.records]), flush=True)
        elif isinstance(event, Unusable | Unsaved):
            print(event, file=sys.stderr)
    assert run.outcomes is not None, "nothing stops it"
    json.dump([asdict(end) | {"examples": end.examples.hex()} for end in run.outcomes], sys.stdout)
    print()


if __name__ == "__main__":
    main()
