"""Datasets with their models and losses, one file each, and the only table that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name

import torch

from trainables.config import DATASETS, Task
from trainables.workloads.base import Workload

WORKLOADS: Mapping[str, str] = {
    "synthetic": "trainables.workloads.synthetic:build",
    "digits": "trainables.workloads.digits:build",
    "fashion-mnist": "trainables.workloads.fashion_mnist:build",
    "movielens-100k": "trainables.workloads.movielens:build",
}
"""Dataset → its `build(task, data_dir, device)`; imported on first use, since readers import slow libraries."""


def build_workload(task: Task, data_dir: Path, device: torch.device) -> Workload:
    """Returns a task's dataset on the device, with its model, loss and metrics.

    Args:
        task: dataset, model, loss, batch size and `train_on` are used.
        data_dir: folder of the fetched datasets.
        device: where the data will live.

    Raises:
        MissingDataError: the dataset has to be fetched first; the message gives the command.
        ValueError: the task does not fit the dataset, or its files cannot be used.
    """
    if task.dataset not in WORKLOADS:
        raise ValueError(f"dataset must be one of {', '.join(WORKLOADS)}, got '{task.dataset}'")
    fits = DATASETS[task.dataset]
    for key, got, allowed in (("model", task.model.name, fits.models), ("loss", task.loss, fits.losses)):
        if got not in allowed:
            raise ValueError(f"{key} of dataset '{task.dataset}' must be one of {', '.join(allowed)}, got '{got}'")
    workload: Workload = resolve_name(WORKLOADS[task.dataset])(task, data_dir, device)
    return workload
