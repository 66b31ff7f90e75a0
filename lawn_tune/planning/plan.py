"""Spaces to cells. Imports no torch, and nothing that a space names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import search_spaces
from lawn_tune.cells import Cell, CellName, Kept, Protocol, default_baselines
from lawn_tune.errors import UsageError
from lawn_tune.planning.check import WARMUP, catalogue_of, check
from search_spaces.keys import did_you_mean
from search_spaces.levels import batch_of
from search_spaces.space import Budget, SearchSpace
from trainables.catalogue import Catalogue, carried
from trainables.catalogue.methods import METHODS
from trainables.tasks import Task, model_config


def plan(
    space: SearchSpace,
    *,
    cells: Sequence[str] = (),
    max_epochs: int | None = None,
    seeds: int | None = None,
) -> tuple[Cell, ...]:
    """Returns the cells of a space in plan order: optimizers as in the file, then batch sizes from small to large.

    Args:
        cells: shell patterns such as `adam*/bs512`; a cell is planned if one matches its name, with or without the
            space. None given plans all.
        max_epochs: upper bound of every cell's epochs; warm-up and free epochs stay as in the grid.
        seeds: number of confirm seeds: the first of the file's; beyond those it counts on from the last.

    Raises:
        SpaceError: a key of the file does not fit its dataset, model or optimizer.
        UsageError: a pattern matches no cell, a number is below 1, or a warm-up does not end within `max_epochs`.
    """
    return plan_all((space,), cells=cells, max_epochs=max_epochs, seeds=seeds)


def plan_all(
    spaces: Sequence[SearchSpace],
    *,
    cells: Sequence[str] = (),
    max_epochs: int | None = None,
    seeds: int | None = None,
) -> tuple[Cell, ...]:
    """Returns the cells of several spaces, as `plan` does for one; a pattern has to match a cell of any of them."""
    _at_least_one("--max-epochs", max_epochs)
    _at_least_one("--seeds", seeds)
    planned = [cell for space in spaces for cell in _cells(space, max_epochs, seeds)]
    chosen = select(planned, cells)
    for space in spaces:
        for cell in chosen:
            if cell.name.space == space.name:
                _check_cap(space, cell)
    return chosen


def select(cells: Iterable[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """Returns the cells that a pattern matches, in their order; all of them without patterns.

    Raises:
        UsageError: a pattern matches none.
    """
    known = tuple(cells)
    for pattern in patterns:
        if not any(_matches(cell.name, pattern) for cell in known):
            names = ", ".join(str(cell.name) for cell in known)
            text = f"--cells {pattern[:80]!r} matches no cell of: {names}"
            raise UsageError(text, "Patterns look like 'adam*/bs512'.")
    return tuple(cell for cell in known if not patterns or any(_matches(cell.name, pattern) for pattern in patterns))


def _matches(name: CellName, pattern: str) -> bool:
    return fnmatchcase(name.short, pattern) or fnmatchcase(str(name), pattern)


def _cells(space: SearchSpace, max_epochs: int | None, seeds: int | None) -> list[Cell]:
    space, known = catalogue_of(space)
    check(space, known)
    confirm = space.confirm_seeds if seeds is None else _confirm_seeds(space, seeds)
    return [
        _cell(space, known, optimizer, budget, confirm, max_epochs or budget.epochs)
        for optimizer in space.grids
        for budget in sorted(space.budgets, key=lambda budget: budget.batch_size)
    ]


def _cell(
    space: SearchSpace, known: Catalogue, optimizer: str, budget: Budget, confirm: tuple[int, ...], cap: int
) -> Cell:
    options = {option: value for option, value in space.model.items() if option != "name"}
    model = model_config(space.model["name"], known=known, **options)
    task = Task(
        dataset=space.dataset,
        model=model,
        loss=space.loss,
        optimizer=optimizer,
        batch_size=budget.batch_size,
        epochs=min(budget.epochs, cap),
        micro_batch=budget.micro_batch or 0,
        schedule=space.schedule,
        constrain=space.constrain,
        precision=space.precision,
        rows=carried(
            known, method=optimizer, dataset=space.dataset, model=model.name, loss=space.loss, metric=space.metric
        ),
    )
    protocol = Protocol(
        metric=space.metric,
        direction=known.metrics[space.metric].direction,
        selection="test" if space.selection == "test" else "validation",
        reported="best" if space.reported == "best" else "last",
        margin=known.metrics[space.metric].margin if space.margin is None else space.margin,
        search_seeds=space.search_seeds,
        confirm_seeds=confirm,
        full_epochs=budget.epochs,
    )
    name = CellName(space.name, optimizer, budget.batch_size)
    grid = space.grid(optimizer, budget.batch_size)
    baselines = _baselines(space, known, optimizer)
    kept = {
        hyperparameter: Kept(batch_size=size, levels=space.grid(optimizer, size).values[hyperparameter])
        for hyperparameter, levels in grid.values.items()
        if (size := batch_of(levels[0])) is not None
    }
    return Cell(name=name, task=task, grid=grid, protocol=protocol, baselines=baselines, kept=kept, about=space.about)


def _baselines(space: SearchSpace, known: Catalogue, method: str) -> tuple[str, ...]:
    """Returns what a method is compared with: as the space declares, else as its row does."""
    if not space.compare:
        return default_baselines(known.methods[method])
    return tuple(pair.baseline for pair in space.compare if pair.challenger == method)


def _confirm_seeds(space: SearchSpace, count: int) -> tuple[int, ...]:
    seeds = list(space.confirm_seeds[:count])
    candidate = space.confirm_seeds[-1]
    while len(seeds) < count:
        candidate += 1
        if candidate not in space.search_seeds and candidate not in space.confirm_seeds:
            seeds.append(candidate)
    return tuple(seeds)


def _at_least_one(flag: str, value: int | None) -> None:
    if value is not None and value < 1:
        unit = flag.rpartition("-")[2]
        raise UsageError(
            f"{flag} must be a whole number from 1, got {value}", f"Leave it out to use the space's {unit}."
        )


def _check_cap(space: SearchSpace, cell: Cell) -> None:
    cap, levels = cell.task.epochs, cell.grid.values.get(WARMUP, (0.0,))
    longest = max(levels)
    if longest >= cap:
        fitting = ", ".join(f"{level:g}" for level in levels if level < cap) or "none"
        built_in = space.source.parent == Path(search_spaces.__file__).parent
        file = "a copy of the file" if built_in else "the file"
        raise UsageError(
            f"--max-epochs {cap} ends {cell.name} within its warm-up: {space.source}: "
            f"optimizers.{cell.name.optimizer}.{WARMUP} has {longest:g}",
            f"Choose --max-epochs above {longest:g}, or shorten the warm-up in {file}; "
            f"of its levels, those below {cap} fit: {fitting}. For a short try use --smoke, which scales the schedule.",
        )


def twins(cells: Sequence[Cell]) -> dict[CellName, CellName]:
    """Returns the cells that train nothing of their own: cell → the one before it that has the same trials."""
    first: dict[tuple[object, ...], CellName] = {}
    found = {}
    for cell in cells:
        protocol = cell.protocol
        same = (*(trial.key for trial in cell.search_trials), protocol.confirm_seeds, protocol.metric)
        rules = (protocol.selection, protocol.reported)  # by which the winner is chosen
        if first.setdefault((same, rules), cell.name) != cell.name:
            found[cell.name] = first[same, rules]
    return found


def unconstrained_points(cell: Cell) -> int:
    """Returns how many grid points have a free phase as long as the whole training, which leaves no constraint."""
    return sum(cell.never_constrained(cell.grid.point(i)) for i in range(cell.grid.size))


def warnings(cells: Sequence[Cell]) -> list[str]:
    """Returns what of a plan is probably a mistake."""
    return [*_mistyped(cells), *_unconstrained(cells)]


def _mistyped(cells: Sequence[Cell]) -> list[str]:
    """Returns a warning for each method of a training function that no pair names, but for which one is mistaken."""
    paired = {(cell.name.space, name) for cell in cells for name in cell.baselines}
    own = [cell for cell in cells if not (cell.method.rule.direction or cell.method.rule.optimizer or cell.baselines)]
    names = {(cell.name.space, cell.name.optimizer): did_you_mean(cell.name.optimizer, METHODS) for cell in own}
    return [
        f"warning: {space}: {name} is not a method of the catalogue, so its function must build the optimizer. "
        + meant.rstrip()
        for (space, name), meant in names.items()
        if meant and (space, name) not in paired
    ]


def _unconstrained(cells: Iterable[Cell]) -> list[str]:
    """Returns a warning for each cell of which no point ever reaches its constraint: it would not be what it is named.

    A grid may have some such points, which are the base method; a space of them only is probably a mistake.
    """
    return [
        f"warning: no point of {cell.name} ever reaches its constraint: every {cell.method.switch} is >= "
        f"{cell.task.epochs}, its epochs. Add a lower one, or train for more epochs."
        for cell in cells
        if unconstrained_points(cell) == cell.grid.size
    ]
