"""Cells cut down to a smoke run: the study's batches, models and packs, for a few steps. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import ceil, prod

from lawn_tune.cells import Cell
from lawn_tune.planning.packing import pack_size
from search_spaces.space import Grid

EPOCHS = 3
"""Epochs of a smoke trial: one before its checkpoint, and one after (our choice)."""

STEPS = 4
"""Maximum steps of such an epoch (our choice)."""

POINTS = 2
"""Points of a cell, if its packs hold no more (our choice)."""


def smoke_cells(cells: Sequence[Cell], size: int | None = None, on_gpu: bool = False) -> tuple[Cell, ...]:
    """Returns the cells of a smoke run, which trains nothing that belongs to the study: its trials have other keys.

    Each cell keeps dataset, model, method and batch size. It has two grid points, or as many as one of its packs
    holds, so that a pack takes the memory of the study's; the first search seed, and the confirm seeds of one pack.
    Warm-up and free phase have the same share of the shorter training.

    Args:
        cells: of the study, whatever their warm-up is.
        size: maximum trials of a pack; the plan's rule if None.
        on_gpu: whether that is the rule for GPUs.
    """
    return tuple(
        _smoke(cell, size or pack_size(cell, "search", on_gpu), size or pack_size(cell, "confirm", on_gpu))
        for cell in cells
    )


def _smoke(cell: Cell, searched: int, confirmed: int) -> Cell:
    steps = min(STEPS, ceil(cell.task.examples / cell.task.batch_size))
    task = replace(cell.task, epochs=EPOCHS, steps=STEPS)
    seeds = cell.protocol.confirm_seeds[:confirmed]
    protocol = replace(
        cell.protocol, search_seeds=cell.protocol.search_seeds[:1], confirm_seeds=seeds, full_epochs=EPOCHS
    )
    middle = {name: sorted(kept.levels)[len(kept.levels) // 2] for name, kept in cell.kept.items()}
    grid = _part(cell.keeping(middle).grid, max(POINTS, searched))
    scaled = {name: _scaled(cell, name, levels, steps) for name, levels in grid.values.items()}
    return replace(cell, task=task, grid=Grid(scaled), protocol=protocol, kept={})


def _part(grid: Grid, most: int) -> Grid:
    """Returns the largest part of a grid with at most `most` points: of each hyperparameter its lowest levels."""
    sizes = product(*(range(1, min(len(levels), most) + 1) for levels in grid.values.values()))
    chosen = max((each for each in sizes if prod(each) <= most), key=lambda each: (prod(each), each))
    return Grid(
        {name: tuple(sorted(levels)[:n]) for (name, levels), n in zip(grid.values.items(), chosen, strict=True)}
    )


def _scaled(cell: Cell, name: str, levels: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """Returns levels in epochs as the same share of `EPOCHS`, different ones for different levels.

    A free phase keeps at least one step, unless it has none, and one that never ends does not end here either; words
    stay as they are.
    """
    full = cell.protocol.full_epochs
    if name == cell.method.switch:
        least = 1 / steps
        return tuple(least + level * (EPOCHS - least) / full if level > 0 else level for level in levels)
    return tuple(level * EPOCHS / full for level in levels) if name == "warmup_epochs" else levels
