"""A cell: one optimizer at one batch size in one space, with its grid expanded into trials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from search_spaces.space import Grid
from trainables.config import Direction, Member, Task, trial_key

Phase = Literal["search", "confirm"]


@dataclass(frozen=True, order=True)
class CellName:
    """Names an Optuna study: `space/optimizer/bs<batch>`."""

    space: str
    optimizer: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.space}/{self.optimizer}/bs{self.batch_size}"

    @staticmethod
    def parse(text: str) -> CellName:
        """The inverse of `str`.

        Raises:
            ValueError: text is no cell's name.
        """
        match = re.fullmatch(r"([\w.-]+)/([\w.-]+)/bs(\d+)", text)
        if match is None:
            raise ValueError(f"'{text}' is not a cell name like 'digits/adam-lawn/bs64'")
        return CellName(match[1], match[2], int(match[3]))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a cell selects and reports; it changes what is read from trials, never their numbers."""

    metric: str
    direction: Direction
    selection: Literal["validation", "test"]
    reported: Literal["last", "best"]
    search_seeds: tuple[int, ...]
    confirm_seeds: tuple[int, ...]
    full_epochs: int
    """The space's epoch budget; the task's `epochs` is smaller when a launch was capped by --max-epochs."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point with one seed, planned: its key is its identity everywhere."""

    key: str
    phase: Phase
    seed: int
    hyperparameters: Mapping[str, float]

    @property
    def member(self) -> Member:
        """The trial as a worker sees it."""
        return Member(key=self.key, seed=self.seed, hyperparameters=self.hyperparameters)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (space, optimizer, batch size) as planned; the ledger stores it, so results are readable without the file."""

    name: CellName
    task: Task
    grid: Grid
    protocol: Protocol

    @cached_property
    def search_trials(self) -> tuple[Trial, ...]:
        """Every grid point with every search seed, in plan order: seed by seed, then point by point."""
        points = [self.grid.point(i) for i in range(self.grid.size)]
        return tuple(self._trial(self.task, "search", seed, p) for seed in self.protocol.search_seeds for p in points)

    @property
    def confirm_task(self) -> Task:
        """The search task on train + validation data."""
        return replace(self.task, train_on="train+validation")

    def confirm_trials(self, winner: Mapping[str, float]) -> tuple[Trial, ...]:
        """Returns the winner's retraining, one trial a confirm seed."""
        seeds = self.protocol.confirm_seeds
        return tuple(self._trial(self.confirm_task, "confirm", seed, winner) for seed in seeds)

    def planned_trials(self, phase: Phase) -> tuple[Trial, ...]:
        """Returns the trials of `phase` as far as a plan knows them: any point is confirmed at the winner's cost."""
        return self.search_trials if phase == "search" else self.confirm_trials(self.grid.point(0))

    def task_of(self, phase: Phase) -> Task:
        """Returns the task that trials of `phase` train."""
        return self.task if phase == "search" else self.confirm_task

    @staticmethod
    def _trial(task: Task, phase: Phase, seed: int, point: Mapping[str, float]) -> Trial:
        return Trial(key=trial_key(task, seed, point), phase=phase, seed=seed, hyperparameters=dict(point))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "name": str(self.name),
            "task": self.task.to_dict(),
            "grid": {name: list(levels) for name, levels in self.grid.values.items()},
            "protocol": asdict(self.protocol),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Cell:
        """The inverse of `to_dict`."""
        protocol = dict(values["protocol"])
        for name in ("search_seeds", "confirm_seeds"):
            protocol[name] = tuple(protocol[name])
        return Cell(
            name=CellName.parse(values["name"]),
            task=Task.from_dict(values["task"]),
            grid=Grid({name: tuple(levels) for name, levels in values["grid"].items()}),
            protocol=Protocol(**protocol),
        )
