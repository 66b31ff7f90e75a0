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
LISTED = 2**25
"""Users times items up to which all users' negatives are listed, in 4 bytes each: MovieLens-1M, not Pinterest."""


class OwnItems:
    """Each user's items in ascending order, one user after the other.

    Args:
        interactions: without a pair that occurs twice.

    `users` and `items` are the pairs [P], `first` and `count` where a user's begin and how many there are [U].
    """

    def __init__(self, interactions: Interactions) -> None:
        self.item_count = interactions.item_count
        order = torch.argsort(interactions.users * self.item_count + interactions.items)
        self.users, self.items = interactions.users[order], interactions.items[order]
        self.count = torch.bincount(self.users, minlength=interactions.user_count)
        self.first = self.count.cumsum(0) - self.count

    def demand_others(self, users: Tensor) -> None:
        """Checks that there is an item for each of `users` that the user has no interaction with.

        Raises:
            DataError: a user has interacted with every item, so there is no negative.
        """
        full = users[self.count[users] >= self.item_count]
        if len(full):
            raise DataError(
                f"user number {full[0]} has interacted with all {self.item_count} items; remove the user, or add items"
            )

    def lacking(self, users: Tensor) -> Tensor:
        """Returns which items users [B] have no interaction with, bool [B, I]: a table for a few users at a time."""
        count, lacking = self.count[users], torch.ones(len(users), self.item_count, dtype=torch.bool)
        row = torch.arange(len(users)).repeat_interleave(count)
        place = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
        lacking[row, self.items[self.first[users][row] + place]] = False
        return lacking


class NegativeSampler:
    """Draws items uniformly among those a user has no interaction with, exactly and without rejection.

    The r-th of them is looked up in a list of all, as long as that has at most `LISTED` numbers. Otherwise, with a
    user's own items p_0 < p_1 < …, it is r + #{j : p_j - j <= r}. The counts of all users are one binary search in the
    sorted keys user·I + (p_j - j), with the memory of the interactions and ten times the list's time.

    Args:
        interactions: those to avoid.
        device: where the draws will be.

    Raises:
        DataError: a user has interacted with every item, so there is no negative.
    """

    def __init__(self, interactions: Interactions, device: torch.device) -> None:
        own, self._stride = OwnItems(interactions), interactions.item_count
        everyone = torch.arange(interactions.user_count)
        own.demand_others(everyone)
        missing = self._stride - own.count
        self._missing = missing.to(device)
        self._listed = interactions.user_count * self._stride <= LISTED
        if self._listed:
            parts = [own.lacking(users).nonzero()[:, 1].int() for users in torch.split(everyone, USERS_AT_ONCE)]
            self._others, self._first = torch.cat(parts).to(device), (missing.cumsum(0) - missing).to(device)
        else:
            place = torch.arange(len(own.users)) - own.first[own.users]
            keys = own.users * self._stride + own.items - place
            self._keys, self._first = keys.to(device), own.first.to(device)

    def draw(self, users: Tensor, per_user: int, generator: torch.Generator) -> Tensor:
        """Returns negatives [P, per_user] for users [P], with repetition.

        Args:
            users: indices, on the sampler's device.
            per_user: draws for each entry of `users`.
            generator: draws on its own device.
        """
        uniform = torch.rand(
            len(users), per_user, generator=generator, dtype=torch.float64, device=generator.device
        ).to(users.device)
        users = users.unsqueeze(1)
        rank, first = (uniform * self._missing[users]).long(), self._first[users]
        if self._listed:
            return self._others.index_select(0, (first + rank).flatten()).view_as(rank).long()
        return rank + torch.searchsorted(self._keys, users * self._stride + rank, right=True) - first


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
    generator, own = torch.Generator().manual_seed(seed), OwnItems(everything)
    own.demand_others(positives.users)
    missing = everything.item_count - own.count[positives.users]
    width = min(CANDIDATE_NEGATIVES, int(missing.max()))
    parts = torch.split(positives.users, USERS_AT_ONCE)
    negatives = [_distinct(own.lacking(users), width, generator) for users in parts]
    valid = torch.arange(width) < missing.unsqueeze(1)
    items = torch.where(valid, torch.cat(negatives), positives.items.unsqueeze(1))
    return Candidates(
        positives.users,
        torch.cat([positives.items.unsqueeze(1), items], dim=1),
        torch.cat([torch.ones(len(positives), 1, dtype=torch.bool), valid], dim=1),
    )


def _distinct(allowed: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Returns `width` distinct columns of each row, uniform over the allowed ones; other columns come last."""
    order = torch.rand(allowed.shape, generator=generator, dtype=torch.float64).masked_fill_(~allowed, 2.0)
    return order.topk(width, dim=1, largest=False).indices
