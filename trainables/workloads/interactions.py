"""Interactions of users with items, read from a file and split by time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import DataError
from trainables.workloads.integer_tables import read_table

Ids = NDArray[np.int64]


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
    """One interaction of each user tests, another validates, the rest train."""

    train: Interactions
    validation: Interactions
    test: Interactions


def read_interactions(path: Path, separator: str = "\t") -> Interactions:
    """Reads a file of user, item, rating and timestamp; ratings are not used.

    Users and items are numbered in the order of their ids, and of a repeated pair only the latest is kept, so the
    order of the rows in the file does not matter.

    Raises:
        DataError: the file does not have that form.
    """
    user_ids, item_ids, _, times = read_table(path, "user, item, rating, timestamp", (4,), separator).T
    user_ids, item_ids = latest_pairs(user_ids, item_ids, times)
    users, items = (np.unique(ids, return_inverse=True)[1] for ids in (user_ids, item_ids))
    return Interactions(
        torch.from_numpy(users),
        torch.from_numpy(items),
        user_count=int(users.max()) + 1,
        item_count=int(items.max()) + 1,
    )


def latest_pairs(user_ids: Ids, item_ids: Ids, times: Ids) -> tuple[Ids, Ids]:
    """Returns each pair once, with its latest time, ordered by user, time and `tie_hash`.

    Args:
        user_ids, item_ids, times: [P]; a file without times gives equal ones, so that the hash alone orders a user's.
    """
    order = np.lexsort((times, item_ids, user_ids))
    users, items, times = user_ids[order], item_ids[order], times[order]
    kept = np.append((np.diff(users) != 0) | (np.diff(items) != 0), True)
    users, items, times = users[kept], items[kept], times[kept]
    order = np.lexsort((tie_hash(users, items), times, users))
    return users[order], items[order]


def tie_hash(user_ids: Ids, item_ids: Ids) -> NDArray[np.uint64]:
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


def join(first: Interactions, *others: Interactions) -> Interactions:
    """Returns the pairs of all, ordered by user."""
    users = torch.cat([first.users, *(other.users for other in others)])
    items = torch.cat([first.items, *(other.items for other in others)])
    order = torch.argsort(users, stable=True)
    return Interactions(users[order], items[order], first.user_count, first.item_count)
