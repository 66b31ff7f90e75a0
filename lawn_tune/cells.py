"""A cell: one optimizer at one batch size in one space, with its grid expanded into trials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

from search_spaces.levels import batch_of, is_word, split
from search_spaces.space import Grid
from trainables.catalogue.rows import Control, Direction, Method, Metric
from trainables.outcomes import SWITCH_EPOCH
from trainables.tasks import Task, Trial, trial_key

Phase = Literal["search", "confirm"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""In their order in a launch."""

Levels = Mapping[str, tuple[float, ...]]
"""Hyperparameter → its levels."""


@dataclass(frozen=True, order=True)
class CellName:
    """Names an Optuna study: `space/optimizer/bs<batch>`."""

    space: str
    optimizer: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.space}/{self.short}"

    @property
    def short(self) -> str:
        """The name within its space."""
        return f"{self.optimizer}/bs{self.batch_size}"

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
    margin: float | None = 0.5
    """Difference below which two methods count as equivalent, in the metric's unit; None for never. Its default is that
    of cells that older versions stored."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How large the packs of a cell are, as its first launch chose; the ledger keeps it for all later ones.

    Args:
        search, confirm: maximum number of trials in a pack of that phase.
        workers: number of workers it was chosen for, None if the launch was given a size.
        plan: `Cell.plan_id` of what it was chosen for.
    """

    search: int
    confirm: int
    workers: int | None
    plan: str

    def size(self, phase: Phase) -> int:
        """Returns the maximum number of trials in a pack of `phase`."""
        return self.search if phase == "search" else self.confirm

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Packing:
        """The inverse of `asdict`.

        Raises:
            ValueError, TypeError, LookupError: the values are damaged.
        """
        found = Packing(**values)
        numbers = (found.search, found.confirm, 1 if found.workers is None else found.workers)
        if not all(type(number) is int and number >= 1 for number in numbers) or type(found.plan) is not str:
            raise ValueError("its packing must be whole numbers from 1, and the identity of a plan")
        return found


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A hyperparameter of a cell whose one level is that of the winner of the same method at another batch size.

    Args:
        batch_size: the other.
        levels: of that grid in the space's file, from which the winner's is.
    """

    batch_size: int
    levels: tuple[float, ...]

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Kept:
        """The inverse of `asdict`."""
        found = Kept(batch_size=values["batch_size"], levels=tuple(values["levels"]))
        if not all(type(number) in (int, float) for number in (found.batch_size, *found.levels)) or not found.levels:
            raise ValueError("kept levels need a batch size and a list of numbers")
        return found


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (space, method, batch size) as planned; the ledger stores it, so results are readable without the file.

    Args:
        name, task, grid, protocol: what is trained, and how it is read.
        baselines: methods that this one is compared with, as its challenger; () for a baseline.
        packing: how large its packs are, None while no launch has chosen; two cells may be equal without it.
        added: levels that launches have added to the grid of the space's file, which `grid` holds too.
        kept: hyperparameter → whose level it has, of those that another batch size decides.
        first_seeds, first_grid: confirm seeds and levels that the first launch of this task planned, kept by the
            ledger; None in a plan.
        about: description and notes of its space, by paragraph; () in older ledgers.
    """

    name: CellName
    task: Task
    grid: Grid
    protocol: Protocol
    baselines: tuple[str, ...] = ()
    packing: Packing | None = field(default=None, compare=False)
    added: Levels = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    first_seeds: tuple[int, ...] | None = field(default=None, compare=False)
    first_grid: Levels | None = field(default=None, compare=False)
    about: tuple[str, ...] = field(default=(), compare=False)

    def extended(self, added: Levels) -> Cell:
        """Returns the same cell with these levels added to its file's grid, those that it holds already left out."""
        if not added:
            return self
        grid = {
            name: tuple(dict.fromkeys((*levels, *added.get(name, ())))) for name, levels in self.grid.values.items()
        }
        return replace(self, grid=Grid(grid), added={**self.added, **added})

    @property
    def pending(self) -> bool:
        """True while a level is not known that another batch size decides: no trial of it can be trained."""
        return any(batch_of(self.grid.values[name][0]) is not None for name in self.kept)

    def keeping(self, levels: Mapping[str, float]) -> Cell:
        """Returns the same cell with these levels of the hyperparameters that another batch size decides."""
        return replace(self, grid=Grid({**self.grid.values, **{name: (level,) for name, level in levels.items()}}))

    def at_batch(self, size: int) -> CellName:
        """Returns the cell of the same method at another batch size."""
        return replace(self.name, batch_size=size)

    def rival(self, method: str) -> CellName:
        """Returns the cell of another method that it is compared with."""
        return replace(self.name, optimizer=method)

    @property
    def dropped_seeds(self) -> tuple[int, ...]:
        """Confirm seeds that the first launch planned and the last one did not."""
        return tuple(seed for seed in self.first_seeds or () if seed not in self.protocol.confirm_seeds)

    @property
    def added_seeds(self) -> tuple[int, ...]:
        """Confirm seeds that only a launch after the first planned; () where the first one's are unknown."""
        first = self.protocol.confirm_seeds if self.first_seeds is None else self.first_seeds
        return tuple(seed for seed in self.protocol.confirm_seeds if seed not in first)

    @cached_property
    def method(self) -> Method:
        """The method that is trained."""
        return self.task.method

    @property
    def metric(self) -> Metric:
        """The metric that selects and is reported; one that this version does not know has no unit."""
        name, direction = self.protocol.metric, self.protocol.direction
        return self.task.catalogue.metrics.get(name) or Metric(name=name, label=name, direction=direction)

    @property
    def control(self) -> Control | None:
        """What its method adds to the rule; None for nothing, and where its grid has no level but 0 of all it adds."""
        control = self.method.control
        levels = [self.grid.values.get(row.name, ()) for row in control.hyperparameters] if control else []
        off = levels and all(levels) and not any(level for values in levels for level in values)
        return None if off and self.method.switch is None else control

    @property
    def side(self) -> str:
        """What it stands for in a comparison: "LAWN", "weight decay", or the name of its method."""
        if self.control is None:
            return self.method.label if self.method.control is None else f"{self.method.label}, no decay"
        return self.control.side or self.control.label

    def free_epochs(self, point: Mapping[str, float]) -> float | None:
        """Returns how many epochs of a point are free of the control.

        None for a method without a switch, and for a point that switches by itself: its trials say when.
        """
        switch = self.method.switch
        free = None if switch is None else point[switch]
        return None if free is None or is_word(free) else free

    def switch_epoch(self, point: Mapping[str, float], summary: Mapping[str, float | None]) -> float | None:
        """Returns how many epochs of a trial were free of the control, as far as it is known.

        Args:
            point: its hyperparameters.
            summary: of its outcome.
        """
        free = self.free_epochs(point)
        return summary.get(f"last/{SWITCH_EPOCH}") if free is None else free

    def never_constrained(self, point: Mapping[str, float]) -> bool:
        """True for a point whose free phase lasts as long as its training: no step of it is under the control."""
        free = self.free_epochs(point)
        return free is not None and free >= self.task.epochs

    @property
    def constraining_levels(self) -> tuple[float, ...]:
        """Levels of the switch that end before the last epoch, no words; () for a method without a switch."""
        levels, _ = split(self.grid.values.get(self.method.switch or "", ()))
        return tuple(level for level in levels if level < self.task.epochs)

    def siblings_key(self, trial: Trial) -> tuple[tuple[str, float], ...]:
        """Returns the hyperparameters that trials sharing a free phase have in common: all but its length."""
        switch = self.method.switch
        return tuple(item for item in trial.hyperparameters.items() if item[0] != switch or is_word(item[1]))

    @cached_property
    def search_trials(self) -> tuple[Trial, ...]:
        """Every grid point with every search seed, in plan order: seed by seed, then point by point."""
        points = [self.grid.point(i) for i in range(self.grid.size)]
        return tuple(self._trial(self.task, seed, p) for seed in self.protocol.search_seeds for p in points)

    @cached_property
    def plan_id(self) -> str:
        """Identifies what is planned, whatever wins: 12 hex digits of a hash of the search trials and confirm seeds."""
        parts = [*(trial.key for trial in self.search_trials), *map(str, self.protocol.confirm_seeds)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def packed(self, packing: Packing | None) -> Cell:
        """Returns the same cell with other sizes of packs; hashes of its trials are not computed again."""
        cell = replace(self, packing=packing)
        vars(cell).update(search_trials=self.search_trials, plan_id=self.plan_id)
        return cell

    @property
    def confirm_task(self) -> Task:
        """The search task on train + validation data."""
        return replace(self.task, train_on="train+validation")

    def confirm_trials(self, winner: Mapping[str, float]) -> tuple[Trial, ...]:
        """Returns the winner's retraining, one trial a confirm seed."""
        seeds = self.protocol.confirm_seeds
        return tuple(self._trial(self.confirm_task, seed, winner) for seed in seeds)

    def planned_trials(self, phase: Phase) -> tuple[Trial, ...]:
        """Returns the trials of `phase` as far as a plan knows them: any point is confirmed at the winner's cost."""
        return self.search_trials if phase == "search" else self.confirm_trials(self.grid.point(0))

    def task_of(self, phase: Phase) -> Task:
        """Returns the task that trials of `phase` train."""
        return self.task if phase == "search" else self.confirm_task

    @staticmethod
    def _trial(task: Task, seed: int, point: Mapping[str, float]) -> Trial:
        return Trial(key=trial_key(task, seed, point), seed=seed, hyperparameters=dict(point))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "name": str(self.name),
            "task": self.task.to_dict(),
            "grid": _lists(self.grid.values),
            **({"points": [list(point) for point in self.grid.points]} if self.grid.points else {}),
            "protocol": asdict(self.protocol),
            "baselines": list(self.baselines),
            **({} if self.packing is None else {"packing": asdict(self.packing)}),
            **({"added": _lists(self.added)} if self.added else {}),
            **({"kept": {name: asdict(kept) for name, kept in self.kept.items()}} if self.kept else {}),
            **({} if self.first_seeds is None else {"first_seeds": list(self.first_seeds)}),
            **({} if self.first_grid is None else {"first_grid": _lists(self.first_grid)}),
            **({"about": list(self.about)} if self.about else {}),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Cell:
        """The inverse of `to_dict`."""
        protocol, task = dict(values["protocol"]), Task.from_dict(values["task"])
        for name in ("search_seeds", "confirm_seeds"):
            protocol[name] = tuple(protocol[name])
        return Cell(
            name=CellName.parse(values["name"]),
            task=task,
            grid=Grid(
                {name: tuple(levels) for name, levels in values["grid"].items()},
                _points(values.get("points", []), len(values["grid"])),
            ),
            protocol=Protocol(**protocol),
            baselines=tuple(values["baselines"]) if "baselines" in values else default_baselines(task.method),
            packing=Packing.from_dict(values["packing"]) if "packing" in values else None,
            first_seeds=_whole(values["first_seeds"]) if "first_seeds" in values else None,
            added=_levels(values.get("added", {}), "added levels"),
            kept={str(name): Kept.from_dict(kept) for name, kept in dict(values.get("kept", {})).items()},
            first_grid=_levels(values["first_grid"], "first grid") if "first_grid" in values else None,
            about=_texts(values.get("about", [])),
        )


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"its first seeds must be a list of whole numbers, got {values!r}")
    return tuple(values)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(type(value) is str for value in values):
        raise ValueError(f"what is said of its space must be a list of texts, got {values!r}")
    return tuple(values)


def _points(values: Any, length: int) -> tuple[tuple[float, ...], ...]:
    points = tuple(map(tuple, values))
    if not all(len(point) == length and all(type(value) in (int, float) for value in point) for point in points):
        raise ValueError(f"its points must be lists of {length} numbers each")
    return points


def _lists(levels: Levels) -> dict[str, list[float]]:
    return {name: list(some) for name, some in levels.items()}


def _levels(values: Any, what: str) -> dict[str, tuple[float, ...]]:
    found = {str(name): tuple(levels) for name, levels in dict(values).items()}
    if not all(levels and all(type(level) in (int, float) for level in levels) for levels in found.values()):
        raise ValueError(f"its {what} must hold lists of numbers, got {values!r}")
    return found


def default_baselines(method: Method) -> tuple[str, ...]:
    """Returns what a method is compared with where its space names nothing else."""
    return (method.baseline,) if method.baseline else ()
