"""What the paper printed, to stand beside our numbers; never mixed with them."""

from __future__ import annotations

from collections.abc import Mapping

from lawn_tune.cells import Cell

_MOVIELENS_100K: Mapping[str, Mapping[int, float]] = {
    "sgd": {1_000: 66.33, 10_000: 65.58},
    "adam": {1_000: 66.01, 10_000: 66.03, 100_000: 63.20, 400_000: 63.98},
    "adam-lawn": {1_000: 66.81, 10_000: 66.91, 100_000: 66.24, 400_000: 66.14},
    "lamb": {1_000: 65.45, 10_000: 65.34, 100_000: 64.23, 400_000: 62.57},
    "lamb-lawn": {1_000: 66.56, 10_000: 66.54, 100_000: 66.52, 400_000: 66.14},
}
"""HR@10 by optimizer and batch size (paper Table 4); SGD failed at the two largest sizes."""

_EPOCHS: Mapping[int, int] = {1_000: 300, 10_000: 300, 100_000: 500, 400_000: 500}
"""Epochs by batch size (paper §4.3)."""

SOURCE = "paper, Table 4: mean of 3 runs, standard error 0.15 to 0.25, grids and selection not published"


def published(cell: Cell) -> float | None:
    """Returns the paper's value for the same dataset, metric, optimizer and batch size, or None."""
    if (cell.task.dataset, cell.protocol.metric) != ("movielens-100k", "hr@10"):
        return None
    return _MOVIELENS_100K.get(cell.task.optimizer, {}).get(cell.task.batch_size)


def caveat(cell: Cell) -> str | None:
    """Returns how this cell differs from the paper's run, as far as that is known; None without a published value."""
    if published(cell) is None:
        return None
    parts = [_budget(cell.task.epochs, _EPOCHS[cell.task.batch_size])]
    if cell.task.schedule != "linear":
        parts.append(f"the paper's schedule is linear, this run's {cell.task.schedule}")
    parts.append("the paper's model size is not published")
    return "read the paper's value with care: " + "; ".join(parts)


def _budget(ours: int, paper: int) -> str:
    if ours == paper:
        return f"epochs are equal ({ours})"
    short = ", less than half of the paper's budget" if 2 * ours < paper else ""
    return f"{ours} epochs here against {paper} in the paper{short}"
