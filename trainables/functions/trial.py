"""What a training function is given: its hyperparameters, its optimizer, and where its results go."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from trainables.functions.schedule import Schedule
from trainables.functions.state import read_state, read_story, write_state
from trainables.optimizers.build import torch_optimizer
from trainables.optimizers.classes import unused
from trainables.outcomes import SERIES, EpochRecord
from trainables.tasks import PackConfig, TrainOn
from trainables.training.rows import switch_step
from trainables.training.tensor_file import UNWRITABLE

Send = Callable[[dict[str, Any]], None]
"""Passes a message to the worker that runs the function; see `trainables.functions.run`."""


class Ended(BaseException):
    """Ends a function whose trial diverged: there is nothing left to train."""


class FunctionTrial:
    """One trial, as its training function sees it.

    Args:
        config: a pack of one trial.
        device: where to train.
        data_dir: folder of data sets, `--data-dir`.
        send: where results go.
        stopping: whether the launch is stopping.
        checkpoint: file of the saved state; None where none can be kept.
        checkpoint_seconds: minimum time between two writes of it, s; a stopping launch waits for one in any case.

    `hyperparameters` holds the point of the grid with the method's defaults, `seed` has seeded the global generators of
    Python, NumPy and torch, `epochs` is how many to train, `batch_size` the cell's, and `epoch` how many have been
    reported, by an interrupted run too once `load` has returned its state. With `train_on` = "train+validation" the
    trial confirms a winner: it trains on both, and only its test values count.
    """

    def __init__(
        self,
        config: PackConfig,
        *,
        device: torch.device,
        data_dir: Path,
        send: Send,
        stopping: Callable[[], bool] = lambda: False,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 0.0,
    ) -> None:
        (member,) = config.members
        task = config.task
        self.device, self.data_dir = device, data_dir
        self.hyperparameters = _Read(task.complete(member.hyperparameters), member.hyperparameters)
        self.seed, self.epochs, self.batch_size, self.method = member.seed, task.epochs, task.batch_size, task.optimizer
        self.train_on: TrainOn = task.train_on
        self.epoch = 0
        self.hits: NDArray[np.bool_] | None = None
        """What `examples` was last given."""
        self._config, self._send, self._stopping, self._checkpoint = config, send, stopping, checkpoint
        self._records: list[EpochRecord] = []
        self._schedule: Schedule | None = None
        self._saved, self._written = 0, -math.inf
        self._checkpoint_seconds = checkpoint_seconds
        self._process, self._began = os.getpid(), time.monotonic()

    @property
    def should_stop(self) -> bool:
        """Whether the launch is stopping: a function that has saved its state may return."""
        return self._stopping()

    def optimizer(self, parameters: Iterable[Any], *, steps_per_epoch: int) -> Optimizer:
        """Returns the method's optimizer, with its hyperparameters, its learning-rate schedule and its switch built in.

        Args:
            parameters: of the model, or param groups; a group's own `lr` replaces the peak rate.
            steps_per_epoch: calls of `step()` in each epoch; the schedule ends after `epochs` of these.

        Raises:
            ValueError: the method is not one of the catalogue, or the number is below 1.
        """
        task, values = self._config.task, self.hyperparameters.values_unread()
        method = task.method
        if not (method.face or method.rule.optimizer):
            raise ValueError(f"{self.method} is a method of your own: build its optimizer from trial.hyperparameters")
        if not isinstance(steps_per_epoch, Integral) or steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be a whole number from 1, got {steps_per_epoch!r}")
        total = steps_per_epoch * self.epochs
        free = switch_step(values[method.switch], steps_per_epoch, total) if method.switch else None
        optimizer = torch_optimizer(method, values, parameters, free_steps=free)
        self.hyperparameters.unread -= method.hyperparameters.keys() - {*method.names("loss"), *unused(method)}
        self._schedule = Schedule(optimizer, task.schedule, values["warmup_epochs"] * steps_per_epoch, total)
        return optimizer

    def report(
        self,
        epoch: int,
        *,
        validation: float | None = None,
        test: float | None = None,
        **series: float,
    ) -> None:
        """Reports a finished epoch; each once, in order, from 1 to `epochs`.

        A value that is not finite ends the function: its trial has diverged.

        Args:
            validation, test: the metric of the space on these data. Validation is needed while winners are searched for
                (`train_on` = "train"), test while they are confirmed.
            series: further numbers, of `trainables.outcomes.SERIES`, such as train_loss.

        Raises:
            ValueError: an epoch is out of order, a value is missing, or a name is unknown.
        """
        self._check_process("report")
        if epoch != self.epoch + 1 or epoch > self.epochs:
            done = f"after epoch {self.epoch}" if self.epoch else "first"
            rule = f"epochs are reported once each, in order, from 1 to {self.epochs}"
            raise ValueError(f"trial.report({epoch}) {done}: {rule}")
        plain = self._plain(series)  # first, as an unknown name explains a missing value
        values = self._measured(validation, test) | plain
        broken = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
        if broken:
            values = dict.fromkeys(values)
        self.epoch = epoch
        self._records.append(EpochRecord(epoch=epoch, series={name: [value] for name, value in values.items()}))
        diverged = f"{', '.join(broken)} not finite in epoch {epoch}" if broken else ""
        self._send({"kind": "epoch", "epoch": epoch, "series": self._records[-1].series, "diverged": diverged})
        if broken:
            raise Ended

    def examples(self, hits: Any) -> None:
        """Keeps whether the model is right on each test example, so that trials are compared example by example.

        Args:
            hits: bool [E], in the same order for every trial; 100 times their mean is the metric on test.

        Raises:
            ValueError: they are not zeros and ones in one dimension.
        """
        found = np.asarray(hits.detach().cpu() if isinstance(hits, Tensor) else hits)
        if found.ndim != 1 or not np.isin(found, (0, 1)).all():
            rule = "trial.examples takes one dimension of True and False, one a test example"
            raise ValueError(f"{rule}, got shape {found.shape} of {found.dtype}")
        self.hits = found.astype(np.bool_)

    def save(self, state: Any) -> None:
        """Keeps what an interrupted run continues from, right after `report`; global generators are kept with it.

        It writes no more often than `--checkpoint-seconds` asks for, so it may be called in every epoch.

        Args:
            state: nested dictionaries and lists of tensors and plain values, such as state dictionaries.

        Raises:
            ValueError: no epoch was reported since the last call.
            TypeError: the state holds something else.
        """
        self._check_process("save")
        if self.epoch == self._saved:
            raise ValueError("trial.save comes right after trial.report of the same epoch, once")
        self._saved = self.epoch
        early = time.monotonic() - self._written < self._checkpoint_seconds
        if self._checkpoint is None or self.epoch == self.epochs or (early and not self.should_stop):
            return
        self._written = time.monotonic()
        story = {
            "pack": self._config.to_dict(),
            "records": [vars(record) for record in self._records],
            "seconds": time.monotonic() - self._began,
        }
        try:
            write_state(self._checkpoint, story, state, self.device)
        except UNWRITABLE as error:
            self._send({"kind": "unsaved", "error": str(error)})
        else:
            self._send({"kind": "saved"})

    def load(self) -> Any:
        """Returns what an interrupted run of this trial saved last, or None; `epoch` is then that of the state."""
        if self._checkpoint is None or not self._checkpoint.exists():
            return None
        try:
            story = read_story(self._checkpoint)
            if story["pack"] != self._config.to_dict():
                raise ValueError("it is another trial's")
            records, seconds = [EpochRecord(**record) for record in story["records"]], float(story["seconds"])
            state = read_state(self._checkpoint, self.device)
        except Exception as error:
            self._send({"kind": "unusable", "reason": f"{type(error).__name__}: {error}"})
            return None
        self._records, self.epoch, self._saved = records, records[-1].epoch, records[-1].epoch
        self._began -= seconds
        self._send({"kind": "resumed", "records": story["records"], "seconds": seconds})
        return state

    def warnings(self) -> Iterator[str]:
        """Yields what the function should have done otherwise, once it has returned."""
        if self.hyperparameters.unread:
            names = ", ".join(sorted(self.hyperparameters.unread))
            yield f"it does not read the hyperparameters {names}: their values change nothing"
        schedule = self._schedule
        if schedule is not None and schedule.steps < schedule.total_steps and self.epoch == self.epochs:
            rule = f"it made {schedule.steps} steps of the {schedule.total_steps} that its schedule has"
            yield f"{rule}, so its learning rate did not reach 0: correct steps_per_epoch"

    def _measured(self, validation: float | None, test: float | None) -> dict[str, float | None]:
        searching = self.train_on == "train"
        splits = {"validation": validation, "test": test} if searching else {"test": test}
        needed = "validation" if searching else "test"
        if splits[needed] is None:
            why = "winners are searched for" if searching else "winners are confirmed"
            raise ValueError(f"trial.report needs {needed}=... while {why} (train_on = '{self.train_on}')")
        (metric,) = self._config.task.dataset_row.metrics
        return {
            f"{split}/{metric}": None if value is None else _number(split, value) for split, value in splits.items()
        }

    def _plain(self, series: Mapping[str, float]) -> dict[str, float | None]:
        if unknown := [name for name in series if name not in SERIES]:
            raise ValueError(f"trial.report takes validation, test, {', '.join(SERIES)}, got {', '.join(unknown)}")
        own: dict[str, float | None] = dict.fromkeys(SERIES)
        if self._schedule is not None:
            own["learning_rate"] = float(self._schedule.optimizer.param_groups[0]["lr"])
        return own | {name: _number(name, value) for name, value in series.items()}

    def _check_process(self, name: str) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(f"trial.{name} works in the process of the function only, not in one that it forked")


def _number(name: str, value: Any) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        got = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"
        raise ValueError(f"trial.report takes one number as {name}, got {got}") from None


class _Read(Mapping[str, float]):
    """Hyperparameters that know which of those of the grid nobody has read."""

    def __init__(self, values: Mapping[str, float], grid: Iterable[str]) -> None:
        self._values, self.unread = dict(values), set(grid)

    def values_unread(self) -> dict[str, float]:
        """Returns all of them, none of which counts as read."""
        return dict(self._values)

    def __getitem__(self, name: str) -> float:
        if name not in self._values:
            raise KeyError(f"{name}; this trial has {', '.join(self._values)}")
        self.unread.discard(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        self.unread.clear()  # printing is enough of a use
        return repr(self._values)
