"""The datasets as plain tensors, with the splits and the evaluation candidates that `trainables` uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainables.workloads.images import LabeledImages
from trainables.workloads.interactions import leave_latest_out, read_interactions
from trainables.workloads.negatives import candidates
from trainables.workloads.ranking import CANDIDATE_SEEDS


@dataclass(frozen=True)
class Images:
    """Standardized images [N, 1, 8, 8] and labels [N] of each split."""

    train: tuple[Tensor, Tensor]
    held_out: dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Ratings:
    """Interactions of users with films.

    Args:
        users, items: training pairs [P].
        held_out: split → users [E] and their candidates [E, 100], the true item in column 0.
        user_count, item_count: numbers of both.
    """

    users: Tensor
    items: Tensor
    held_out: dict[str, tuple[Tensor, Tensor]]
    user_count: int
    item_count: int


def digits() -> Images:
    """Returns scikit-learn's digits: 1,293 images to train, 144 to validate, 360 to test."""
    from sklearn.datasets import load_digits  # slow import, only needed here

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).float().unsqueeze(1)
    rest, test = LabeledImages(pixels, torch.from_numpy(bunch.target).long()).hold_out(every=5)
    train, validation = rest.hold_out(every=10)
    std, mean = torch.std_mean(train.images)
    parts = [((part.images - mean) / std, part.labels) for part in (train, validation, test)]
    return Images(parts[0], {"validation": parts[1], "test": parts[2]})


def movielens(data_dir: Path) -> Ratings:
    """Returns MovieLens-100k, each user's last two films held out."""
    everything = read_interactions(data_dir / "ml-100k" / "u.data")
    splits = leave_latest_out(everything)
    found = {
        "validation": candidates(splits.validation, everything, CANDIDATE_SEEDS["validation"]),
        "test": candidates(splits.test, everything, CANDIDATE_SEEDS["test"]),
    }
    held_out = {split: (part.users, part.items) for split, part in found.items()}
    counts = everything.user_count, everything.item_count
    return Ratings(splits.train.users, splits.train.items, held_out, *counts)
