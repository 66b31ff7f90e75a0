"""Interactions of users with items, read from a file and split by time."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import DataError


@dataclass(frozen=True)
class Interactions:
    """Pairs of a user and an item, ordered by user, then time, then a fixed hash of the pair's ids.

    Args:
        users: indices from 0 without gaps, int64 [P].
        items: the same for items, int64 [P]; no pair occurs twice.
        user_count, item_count: counts over the whole file.
    """

    users: Tensor
    items: Tensor
    user_count: int
    item_count: int

    def where(self, mask: Tensor) -> Interactions:
        """Returns the pairs that `mask` [P] selects, in the same order and with the same counts."""
        return Interactions(self.users[mask], self.items[mask], self.user_count, self.item_count)

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Splits:
    """Leave-latest-out: each user's latest interaction tests, the one before validates, the rest train."""

    train: Interactions
    validation: Interactions
    test: Interactions


def read_interactions(path: Path) -> Interactions:
    """Reads a tab-separated file of user, item, rating and timestamp; ratings are not used.

    Users and items are numbered in the order of their ids, and of a repeated pair only the latest is kept, so the
    order of the rows in the file does not matter.

    Raises:
        DataError: the file does not have that form.
    """
    columns = _columns(path)
    columns = columns[np.lexsort((columns[:, 3], columns[:, 1], columns[:, 0]))]
    superseded = (np.diff(columns[:, 0]) == 0) & (np.diff(columns[:, 1]) == 0)
    user_ids, item_ids, _, times = columns[np.append(~superseded, True)].T
    users, items = (np.unique(ids, return_inverse=True)[1] for ids in (user_ids, item_ids))
    order = np.lexsort((tie_hash(user_ids, item_ids), times, users))
    return Interactions(
        torch.from_numpy(users[order]),
        torch.from_numpy(items[order]),
        user_count=int(users.max()) + 1,
        item_count=int(items.max()) + 1,
    )


def tie_hash(user_ids: NDArray[np.int64], item_ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns a fixed hash of each pair, which orders interactions of one user with equal timestamps (our choice).

    Ties are common (415 of 943 users at their latest timestamp), and any meaningful order biases the test set: with the
    highest item id last, popularity ranking has HR@10 31 instead of 40, since ids run from well-known to obscure films.
    The order of rows in the file cannot be used either, since copies of it differ. Source: SplitMix64's finalizer.

    Args:
        user_ids, item_ids: as in the file, [P].
    """
    bits = user_ids.astype(np.uint64) << np.uint64(32) ^ item_ids.astype(np.uint64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def leave_latest_out(interactions: Interactions) -> Splits:
    """Holds out the last two interactions of each user, in their given order (NCF's protocol).

    Users with fewer than three interactions are used for training only.

    Raises:
        DataError: no user has three interactions, so there is nothing to evaluate.
    """
    count = torch.bincount(interactions.users, minlength=interactions.user_count)
    ends = count.cumsum(0)[interactions.users]
    from_last = ends - 1 - torch.arange(len(interactions))
    held_out = (count >= 3)[interactions.users]
    if not held_out.any():
        raise DataError("no user has three interactions, so none can be held out for validation and test; add data")
    return Splits(
        train=interactions.where(~held_out | (from_last >= 2)),
        validation=interactions.where(held_out & (from_last == 1)),
        test=interactions.where(held_out & (from_last == 0)),
    )


def join(first: Interactions, second: Interactions) -> Interactions:
    """Returns the pairs of both, ordered by user."""
    users, items = torch.cat([first.users, second.users]), torch.cat([first.items, second.items])
    order = torch.argsort(users, stable=True)
    return Interactions(users[order], items[order], first.user_count, first.item_count)


def _columns(path: Path) -> NDArray[np.int64]:
    rule = "must contain rows of four tab-separated whole numbers (user, item, rating, timestamp)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about a file without rows, which is rejected below
            columns = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2, comments=None, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise DataError(f"{path} {rule}: {error}. Fetch it again, or restore the original.") from error
    if columns.shape[1] != 4 or not len(columns):
        raise DataError(f"{path} {rule}, got {columns.shape[1]} columns and {len(columns)} rows. Fetch it again.")
    return columns
