"""Spaces of training functions and of workloads, and their trials run by a worker in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lawn_tune.cells import Cell
from lawn_tune.executors.base import Job
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.worker import work
from lawn_tune.planning.functions import archives
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from trainables.tasks import PackConfig

SPACE = """\
description = "a line through noise"
trainable = "train.py:train"
metric = { name = "mse", direction = "minimize", digits = 4 }
epochs = 4

[seeds]
search = [0]
confirm = [1, 2]

[optimizers.adam]
peak_lr = [0.02, 0.05]
warmup_epochs = [1]
weight_decay = [0.1]

[optimizers.adam-lawn]
peak_lr = [0.02, 0.05]
warmup_epochs = [1]
free_epochs = [1.5]
"""

LINE = """\
import torch


def train(trial):
    x = torch.linspace(-1, 1, 24).unsqueeze(1)
    y = 2 * x + 0.1 * torch.sin(99 * x)
    model = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    optimizer = trial.optimizer(model.parameters(), steps_per_epoch=4)
    state = trial.load() or {}
    for part, name in ((model, "model"), (optimizer, "optimizer")):
        if state:
            part.load_state_dict(state[name])
    for epoch in range(trial.epoch, trial.epochs):
        for batch in torch.randperm(24).chunk(4):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            error = torch.nn.functional.mse_loss(model(x), y)
        trial.report(epoch + 1, validation=error, test=error, train_loss=error)
        trial.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        if trial.should_stop:
            return
"""


class Functions:
    """A space of a training function, or of a workload, in a folder."""

    def __init__(self, folder: Path, source: str = LINE, space: str = SPACE, name: str = "train.py") -> None:
        self.folder, self.file = folder, folder / "own.toml"
        self.file.write_text(space)
        (folder / name).write_text(source)

    @property
    def cells(self) -> tuple[Cell, ...]:
        return plan(load_space(self.file))

    def job(self, place: int = 0, confirm: bool = False, trials: int = 1) -> Job:
        """The first search trials of a cell, or its first confirm trials."""
        cell = self.cells[place]
        all_trials = cell.confirm_trials(cell.grid.point(0)) if confirm else cell.search_trials
        task = cell.confirm_task if confirm else cell.task
        return Job(pack="p", config=PackConfig(task=task, members=tuple(all_trials[:trials])))

    def run(self, job: Job, stop: Callable[[int], bool] = lambda epochs: False, **values: Any) -> list[dict[str, Any]]:
        """What a worker says of a job that is asked to stop once `stop` is true for the epochs it reported."""
        code = archives([load_space(self.file)])
        chosen: dict[str, Any] = {
            "report_seconds": 0.0,
            "expendable": False,
            "checkpoint_dir": str(self.folder / "checkpoints"),
        }
        settings = WorkerSettings(code=code, **({"data_dir": str(self.folder)} | chosen | values))
        said: list[dict[str, Any]] = []
        work(job, settings, said.append, lambda: stop(len(said)))
        return said


def end_of(said: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that ends a job."""
    *_, last = said
    assert [message for message in said if message["kind"] != "progress"] == [last]
    return last
