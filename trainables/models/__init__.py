"""Models: plain modules, no data, no training."""

from __future__ import annotations

from torch import nn

from trainables.catalogue.code import resolved
from trainables.catalogue.rows import Shape
from trainables.tasks import Task


def build_model(task: Task, shape: Shape) -> nn.Module:
    """Returns a fresh model of a task on the CPU in fp32, initialised from the global generator.

    Args:
        task: its model and options are used.
        shape: of the data set, see `catalogue.rows.Shape`.

    Raises:
        ValueError: the model does not fit the data set.
    """
    row, data = task.model_row, task.dataset_row.data
    if row.data != data:
        raise ValueError(f"model '{row.name}' is for {row.data}, but data set '{task.dataset}' holds {data}")
    model: nn.Module = resolved(row.build)(**shape, **task.model.options)
    return model
