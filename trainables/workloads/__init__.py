"""Datasets with what is trained and measured on them, one file each; their rows are in `trainables.catalogue`."""

from __future__ import annotations

from pathlib import Path

import torch

from trainables.catalogue.code import resolved
from trainables.data import verified
from trainables.tasks import Task
from trainables.workloads.base import Workload
from trainables.workloads.own_check import own
from trainables.workloads.short import Short


def build_workload(task: Task, data_dir: Path, device: torch.device) -> Workload:
    """Returns a task's dataset on the device, with its model and metrics; the code that its row names is imported.

    Its files are compared with the published ones in this process, right before they are read.

    Args:
        task: dataset, model, loss, batch size, `train_on` and `steps` are used.
        data_dir: folder of the fetched datasets.
        device: where the data will live.

    Raises:
        MissingDataError: the dataset has to be fetched first; the message gives the command.
        DataError: its files differ from the published ones, or changed while they were read.
        WorkloadError: it is a user's, and does not do what it should.
        ValueError: the task does not fit the dataset.
    """
    known = task.catalogue
    if task.dataset not in known.datasets:
        raise ValueError(f"dataset must be one of {', '.join(known.datasets)}, got '{task.dataset}'")
    row = task.dataset_row
    for kind, name, fitting in (
        ("model", task.model.name, known.models_of(row)),
        ("loss", task.loss, known.losses_of(row)),
    ):
        if name not in fitting:
            raise ValueError(f"{kind} of dataset '{row.name}' must be one of {', '.join(fitting)}, got '{name}'")
    with verified(row, data_dir):
        found = resolved(row.workload)
        workload: Workload = own(found, task, data_dir, device) if row.code else found(task, data_dir, device)
    return Short(workload, task.steps * task.batch_size) if task.steps else workload
