"""MovieLens-100k and -1M from their published ratings: each user's latest film tests, the one before validates."""

from __future__ import annotations

from pathlib import Path

import torch

from trainables.data import DataError
from trainables.tasks import Task
from trainables.workloads.interactions import leave_latest_out, read_interactions
from trainables.workloads.ranking import Ranking


def build(task: Task, data_dir: Path, device: torch.device) -> Ranking:
    """Returns MovieLens-100k: 943 users, 1,682 films, 100,000 interactions; see `from_ratings`."""
    return from_ratings(data_dir / "ml-100k" / "u.data", "\t", task, device)


def build_1m(task: Task, data_dir: Path, device: torch.device) -> Ranking:
    """Returns MovieLens-1M: 6,040 users, 3,706 rated films, 1,000,209 interactions; see `from_ratings`."""
    return from_ratings(data_dir / "ml-1m" / "ratings.dat", "::", task, device)


def from_ratings(path: Path, separator: str, task: Task, device: torch.device) -> Ranking:
    """Returns the workload of a file of user, item, rating and timestamp.

    Args:
        path: the file.
        separator: between two of its columns.
        task: what is trained.
        device: where the data will be.

    Raises:
        DataError: the file cannot be used; the message gives the reason.
    """
    interactions = read_interactions(path, separator)
    try:
        return Ranking(task, leave_latest_out(interactions), device)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
