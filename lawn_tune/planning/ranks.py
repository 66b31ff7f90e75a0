"""Whether trials can be trained on several GPUs each. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from lawn_tune.cells import Cell
from lawn_tune.errors import UsageError
from trainables.tasks import Task


def check_ranks(cells: Iterable[Cell], gpus: int) -> None:
    """Checks that each step of each cell has as many micro-batches for one GPU of a trial as for the others.

    Args:
        gpus: of each trial.

    Raises:
        UsageError: the first cell of which that is not true; the text says what to change.
    """
    for cell in cells if gpus > 1 else ():
        if cell.task.by_function:
            text = f"trials of {cell.name} are those of a training function, which has one GPU"
            raise UsageError(f"--gpus-per-trial {gpus}: {text}", "Leave --gpus-per-trial out.")
        size = min(cell.task.batch_size, cell.task.examples)
        parts = ceil(size / min(cell.task.at_once, size))
        if parts % gpus:
            found = f"micro_batch {cell.task.micro_batch:,} cuts" if cell.task.micro_batch else "no micro_batch cuts"
            text = f"{found} a batch of {size:,} of {cell.name} into {parts}, and GPUs share the parts evenly"
            raise UsageError(f"--gpus-per-trial {gpus}: {text}", _advice(cell.task, size, gpus))


def _advice(task: Task, size: int, gpus: int) -> str:
    fit = next((part for part in range(min(task.at_once, size - 1), 1, -1) if ceil(size / part) % gpus == 0), None)
    if fit is None:
        return "Train this cell with --gpus-per-trial 1; --cells chooses cells."
    numbers = "which is another trial; " if task.micro_batch else "which BatchNorm makes another trial; "
    return f"Under [[budgets]], micro_batch = {fit} does ({numbers}--cells leaves cells out)."
