"""Items that a user did not interact with: newly drawn for training, fixed for evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.data import DataError
from trainables.workloads.interactions import Interactions

CANDIDATE_NEGATIVES = 99
"""Negatives ranked with the positive at evaluation (NCF's protocol; "top 10 of 100 items", paper §4.3)."""
USERS_AT_ONCE = 512


class NegativeSampler:
    """Draws items uniformly among those a user has no interaction with, exactly and without rejection.

    With a user's own items p_0 < p_1 < …, the r-th item not among them is r + #{j : p_j - j <= r}. The counts of all
    users are one binary search in the sorted keys user·I + (p_j - j): memory is that of the interactions, no bitmap.

    Args:
        interactions: those to avoid.
        device: where the draws will be.

    Raises:
        DataError: a user has interacted with every item, so there is no negative.
    """

    def __init__(self, interactions: Interactions, device: torch.device) -> None:
        count = torch.bincount(interactions.users, minlength=interactions.user_count)
        self._stride = interactions.item_count
        if bool((count[interactions.users] >= self._stride).any()):
            user = int((count >= self._stride).nonzero()[0])
            raise DataError(
                f"user number {user} has interacted with all {self._stride} items; remove the user, or add items"
            )
        users, items = _sorted(interactions)
        first = count.cumsum(0) - count
        keys = users * self._stride + items - (torch.arange(len(users)) - first[users])
        self._keys, self._first, self._missing = keys.to(device), first.to(device), (self._stride - count).to(device)

    def draw(self, users: Tensor, per_user: int, generator: torch.Generator) -> Tensor:
        """Returns negatives [P, per_user] for users [P], with repetition.

        Args:
            users: indices, on the sampler's device.
            per_user: draws for each entry of `users`.
            generator: on the CPU, so that the draws do not depend on the device.
        """
        uniform = torch.rand(len(users), per_user, generator=generator, dtype=torch.float64).to(users.device)
        users = users.unsqueeze(1)
        rank = (uniform * self._missing[users]).long()
        own = torch.searchsorted(self._keys, users * self._stride + rank, right=True) - self._first[users]
        return rank + own


@dataclass(frozen=True)
class Candidates:
    """The items that each held-out positive is ranked among.

    Args:
        users: [E].
        items: the positive in column 0, then its negatives, all distinct, [E, 1 + N].
        valid: False where a row has fewer than N negatives and is padded, bool [E, 1 + N].
    """

    users: Tensor
    items: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> Candidates:
        """Returns the candidates on a device."""
        return Candidates(self.users.to(device), self.items.to(device), self.valid.to(device))


def candidates(positives: Interactions, everything: Interactions, seed: int) -> Candidates:
    """Draws the fixed candidates of a split: each positive with distinct items its user has no interaction with at all.

    Args:
        positives: one per user.
        everything: all interactions, so that no candidate is an item of another split.
        seed: a constant of the dataset, not the seed of a trial.

    Raises:
        DataError: a user has interacted with every item, so there is no negative.
    """
    generator = torch.Generator().manual_seed(seed)
    known = torch.zeros(everything.user_count, everything.item_count, dtype=torch.bool)
    known[everything.users, everything.items] = True
    missing = everything.item_count - known.sum(dim=1)[positives.users]
    if bool((missing == 0).any()):
        user = int(positives.users[missing == 0][0])
        raise DataError(
            f"user number {user} has interacted with all {everything.item_count} items; remove the user, or add items"
        )
    width = min(CANDIDATE_NEGATIVES, int(missing.max()))
    negatives = [_distinct(~known[users], width, generator) for users in torch.split(positives.users, USERS_AT_ONCE)]
    valid = torch.arange(width) < missing.unsqueeze(1)
    items = torch.where(valid, torch.cat(negatives), positives.items.unsqueeze(1))
    return Candidates(
        positives.users,
        torch.cat([positives.items.unsqueeze(1), items], dim=1),
        torch.cat([torch.ones(len(positives), 1, dtype=torch.bool), valid], dim=1),
    )


def _distinct(allowed: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Returns `width` distinct columns of each row, uniform over the allowed ones; other columns come last."""
    order = torch.rand(allowed.shape, generator=generator, dtype=torch.float64).masked_fill(~allowed, 2.0)
    return order.argsort(dim=1)[:, :width]


def _sorted(interactions: Interactions) -> tuple[Tensor, Tensor]:
    order = torch.argsort(interactions.users * interactions.item_count + interactions.items)
    return interactions.users[order], interactions.items[order]
