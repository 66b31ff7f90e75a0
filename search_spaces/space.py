"""A search space as a value: one dataset and model, batch sizes with their epoch budgets, one grid per optimizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from search_spaces.levels import split


class SpaceError(ValueError):
    """A search space that cannot be used; the message names file, key, value found, values allowed and what to do."""


@dataclass(frozen=True)
class Grid:
    """The product of explicit value lists; point i is computed from i, so the product is never held in memory.

    Args:
        values: hyperparameter → its levels in file order, words as numbers below 0 (see `search_spaces.levels`); the
            last key varies fastest.
        points: instead of the product, for results of other programs: each point's values in the order of the keys.
    """

    values: Mapping[str, tuple[float, ...]]
    points: tuple[tuple[float, ...], ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of points."""
        return len(self.points) or prod(len(levels) for levels in self.values.values())

    def point(self, i: int) -> dict[str, float]:
        """Returns point i (0 <= i < size) by mixed radix.

        Raises:
            IndexError: i is outside the grid.
        """
        if not 0 <= i < self.size:
            raise IndexError(f"point {i} of a grid of {self.size}")
        if self.points:
            return dict(zip(self.values, self.points[i], strict=True))
        chosen: dict[str, float] = {}
        for name, levels in reversed(list(self.values.items())):
            i, digit = divmod(i, len(levels))
            chosen[name] = levels[digit]
        return {name: chosen[name] for name in self.values}

    def edges(self, point: Mapping[str, float]) -> tuple[str, ...]:
        """Returns the hyperparameters whose value in `point` is the lowest or highest of several levels, no word."""
        ordered = {name: split(levels)[0] for name, levels in self.values.items()}
        return tuple(
            name for name, levels in ordered.items() if len(levels) > 1 and point[name] in (min(levels), max(levels))
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One batch size (examples per step) and the number of epochs its trials train for.

    Args:
        batch_size, epochs: as in the file.
        micro_batch: most examples that are on the device at once, whose gradients add up to those of the step; None for
            all of a step.
    """

    batch_size: int
    epochs: int
    micro_batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A comparison that a space declares: two of its methods, by name."""

    challenger: str
    baseline: str


@dataclass(frozen=True, kw_only=True)
class OwnClass:
    """A torch optimizer class that makes the steps of a method.

    Args:
        optimizer: "file.py:Name" or "package.module:Name".
        control: around it; "" for none.
    """

    optimizer: str
    control: str = ""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """One file of `search_spaces/`; field names are the file's keys.

    Args:
        name: file stem; the first part of every study's name.
        source: file it was read from, for error messages.
        description: one line, shown to the user.
        notes: more of it, in paragraphs with an empty line between them.
        dataset: name of a dataset.
        model: the model's name under "name", and its options.
        loss: name of a loss.
        metric: name of the metric that selects winners and is reported.
        selection: split that chooses the winner; "test" is the paper's way and is flagged in every output.
        reported: value of the "last" or of the "best" epoch; "best" is flagged.
        margin: difference of the metric below which two methods count as equivalent; None for never.
        schedule, constrain, precision: see `docs/choices.md`.
        search_seeds: seeds of the grid; winners are chosen on the mean over them.
        confirm_seeds: new seeds that retrain each winner; none may be a search seed.
        budgets: batch sizes with epochs.
        grids: method name → grid.
        overrides: method name → batch size → levels that replace those of its grid, see `levels.of_batch`.
        compare: comparisons instead of those that the methods themselves declare (LAWN against weight decay).
        catalogue: rows that the space brings, as in the file.
        trainable: training function, "train.py:train" or "package.module:train", which brings dataset, model and loss;
            "" for a space without.
        workload: class of a workload, named alike, which does too; "" for a space without.
        classes: method name → torch optimizer class, of the methods that name one.
        sources: patterns of the source files of all of these; () for those that they import.
        data: path in the data folder → sha256 of the files that it reads, as far as the file declares them.
        examples: training examples of one of its epochs; None if the file does not say.
    """

    name: str
    source: Path
    description: str
    dataset: str
    model: Mapping[str, Any]
    loss: str
    metric: str
    selection: str
    reported: str
    margin: float | None
    schedule: str
    constrain: str
    precision: str
    search_seeds: tuple[int, ...]
    confirm_seeds: tuple[int, ...]
    budgets: tuple[Budget, ...]
    grids: Mapping[str, Grid]
    notes: str = ""
    overrides: Mapping[str, Mapping[int, Mapping[str, tuple[float, ...]]]] = field(default_factory=dict)
    compare: tuple[Pairing, ...] = ()
    catalogue: Mapping[str, Any] = field(default_factory=dict)
    trainable: str = ""
    workload: str = ""
    classes: Mapping[str, OwnClass] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    examples: int | None = None

    @property
    def code(self) -> str:
        """What it names of the user's code, a training function or a workload; "" for a space of the catalogue's."""
        return self.trainable or self.workload

    @property
    def about(self) -> tuple[str, ...]:
        """The description, and the notes by paragraph."""
        paragraphs = [" ".join(text.split()) for text in re.split(r"\n\s*\n", self.notes)]
        return (self.description, *filter(None, paragraphs))

    def grid(self, method: str, batch_size: int) -> Grid:
        """Returns the grid of one cell: the method's, with the levels that this batch size overrides."""
        override = self.overrides.get(method, {}).get(batch_size)
        return Grid({**self.grids[method].values, **override}) if override else self.grids[method]
