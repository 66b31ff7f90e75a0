"""Ratings with times, as MovieLens publishes them: each user's latest item tests, the one before validates."""

from __future__ import annotations

from pathlib import Path

import torch

from trainables.data import DataError
from trainables.tasks import Task
from trainables.workloads.interactions import leave_latest_out, read_interactions
from trainables.workloads.ranking import Ranking


def build(task: Task, data_dir: Path, device: torch.device, separator: str = "\t") -> Ranking:
    """Returns the workload of a file of user, item, rating and timestamp, the first of its data set's row.

    Args:
        task: what is trained.
        data_dir: folder of the data sets.
        device: where the data will be.
        separator: between two columns of the file.

    Raises:
        DataError: the file cannot be used; the message gives the reason.
    """
    path = data_dir / task.dataset_row.files[0].path
    interactions = read_interactions(path, separator)
    try:
        return Ranking(task, leave_latest_out(interactions), device)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error


def build_with_colons(task: Task, data_dir: Path, device: torch.device) -> Ranking:
    """Returns the same for columns that are separated by "::"."""
    return build(task, data_dir, device, "::")
