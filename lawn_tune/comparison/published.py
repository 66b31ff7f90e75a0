"""What the paper printed, shown next to our numbers and never mixed with them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from lawn_tune.cells import Cell
from search_spaces.published import PublishedTable, PublishedValue, load_tables
from trainables.tasks import Task


@cache
def paper_tables() -> tuple[PublishedTable, ...]:
    """Returns the paper's tables in its order; the file is read once, when first asked for."""
    return load_tables()


def lookup(dataset: str, optimizer: str, batch_size: int, *, metric: str, loss: str) -> PublishedValue | None:
    """Returns what the paper prints for an optimizer at a batch size, by our names, or None.

    Where two tables print a value, the main one's is taken.
    """
    found = _index().get((dataset, metric, optimizer, batch_size), ())
    return next((value for value in found if value.loss == loss), None)


def printed(cell: Cell) -> PublishedValue | None:
    """Returns what the paper prints for the same dataset, metric, loss, optimizer and batch size, or None."""
    task = cell.task
    if cell.control is not cell.method.control:  # the paper's decay is tuned, this grid has none
        return None
    return lookup(paper_dataset(task), task.optimizer, task.batch_size, metric=cell.protocol.metric, loss=task.loss)


def paper_dataset(task: Task) -> str:
    """Returns the name of a task's data set among the published values."""
    return task.dataset_row.published or task.dataset


def published(cell: Cell) -> float | None:
    """Returns the paper's mean for the same dataset, metric, loss, optimizer and batch size, or None."""
    value = printed(cell)
    return value.mean if value else None


def printed_difference(baseline: Cell, challenger: Cell) -> float | None:
    """Returns challenger − baseline of the paper's means for these two cells; None unless it prints both."""
    base, other = published(baseline), published(challenger)
    return None if base is None or other is None else other - base


def published_curve(dataset: str, optimizer: str, *, metric: str, loss: str) -> tuple[PublishedValue, ...]:
    """Returns the paper's means of one optimizer on a dataset over batch sizes, ascending."""
    sizes = sorted({size for known, _, name, size in _index() if (known, name) == (dataset, optimizer)})
    values = [lookup(dataset, optimizer, size, metric=metric, loss=loss) for size in sizes]
    return tuple(value for value in values if value is not None and value.mean is not None)


def caveat(cell: Cell) -> str | None:
    """Returns how this cell differs from the paper's run, as far as that is known; None without a published value."""
    value = printed(cell)
    if value is None or value.mean is None:
        return None
    parts = [_budget(cell.task.epochs, value.epochs)]
    if cell.task.schedule != "linear":
        parts.append(f"the paper's schedule is linear, this run's {cell.task.schedule}")
    parts.append(_model(cell, value))
    return "read the paper's value with care: " + "; ".join(parts)


def source(cells: Iterable[Cell]) -> str:
    """Returns where the published values of cells are printed, with their n and standard errors."""
    numbers = {value.table for value in map(printed, cells) if value is not None}
    texts = [_described(table) for table in paper_tables() if table.number in numbers]
    return f"paper, {'; '.join(texts)}, grids and selection not published"


def _described(table: PublishedTable) -> str:
    low, high = table.errors or (None, None)
    errors = "" if low is None else f", standard error {low:g} to {high:g}"
    return f"Table {table.number}: mean of {table.runs} runs{errors}"


def _budget(ours: int, paper: int) -> str:
    if ours == paper:
        return f"epochs are equal ({ours})"
    short = ", less than half of the paper's budget" if 2 * ours < paper else ""
    return f"{ours} epochs here against {paper} in the paper{short}"


def _model(cell: Cell, value: PublishedValue) -> str:
    if value.model.lower().startswith(cell.task.model.name):
        return "the paper's model size is not published"
    return f"model {cell.task.model.name} here against {value.model} in the paper"


@cache
def _index() -> dict[tuple[str, str, str, int], list[PublishedValue]]:
    found: dict[tuple[str, str, str, int], list[PublishedValue]] = {}
    for table in sorted(paper_tables(), key=lambda table: not table.main):
        for value in table.values:
            if value.batch_size is not None:
                key = (value.dataset, value.metric, value.method, value.batch_size)
                found.setdefault(key, []).append(value)
    return found
