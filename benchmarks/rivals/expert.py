"""Ray Tune as an expert uses it in eager mode: resident tensors, vectorized negatives, fused AdamW, reused actors.

All that PyTorch offers for a small model on one thread: no DataLoader, one permutation an epoch, rates computed
beforehand, no number read back within an epoch, both embeddings in one table, evaluation in large batches, data read
once a process, and a C library that keeps freed memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals import data, models
from benchmarks.rivals.case import Case, Point, Report, rate_factor

NEGATIVES = 4
PAIRS_PER_CALL = 6400
"""Pairs per call of an evaluation, so that activations fit in the cache."""
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_ARENA_MAX": "1"}
"""glibc keeps freed memory: steps of a large batch take a quarter less time."""


def train(case: Case, point: Point, data_dir: Path, report: Report) -> None:
    """Trains one point from its first epoch to its last."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = TASKS[case.dataset](case, data_dir)
    model, size = task.model, int(point["batch_size"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=point["weight_decay"], fused=True)
    factor = rate_factor(point, task.examples, case.epochs)
    steps = -(-task.examples // size)
    rates = [point["peak_lr"] * factor(step) for step in range(case.epochs * steps)]
    group = optimizer.param_groups[0]
    for epoch in range(case.epochs):
        model.train()
        inputs, targets = (torch.split(part, size) for part in task.epoch())
        losses = []
        for rate, batch, target in zip(rates[epoch * steps :], inputs, targets, strict=False):
            group["lr"] = rate
            loss = task.loss(model(batch), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
        weights = torch.tensor([len(target) for target in targets], dtype=torch.float32)
        metrics = _metrics(task)
        report({"epoch": epoch + 1, "train_loss": float(torch.stack(losses) @ weights) / task.examples} | metrics)


class Task(Protocol):
    """A dataset with its model."""

    model: nn.Module
    examples: int

    def __init__(self, case: Case, data_dir: Path) -> None: ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean loss of a batch."""
        ...

    def epoch(self) -> tuple[Tensor, Tensor]:
        """Returns an epoch's inputs and targets in random order."""
        ...

    def hits(self, split: str) -> Tensor:
        """Returns whether each held-out example is correct, bool [E]."""
        ...


@torch.inference_mode()
def _metrics(task: Task) -> dict[str, float]:
    task.model.eval()
    return {split: 100 * task.hits(split).float().mean().item() for split in ("validation", "test")}


class Digits:
    """Accuracy on the digits."""

    def __init__(self, case: Case, data_dir: Path) -> None:
        self.images = _digits()
        self.model: nn.Module = models.SmallVgg(case.size)
        self.examples = len(self.images.train[1])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Task.loss`."""
        return F.cross_entropy(outputs, targets)

    def epoch(self) -> tuple[Tensor, Tensor]:
        """See `Task.epoch`."""
        order = torch.randperm(self.examples)
        images, labels = self.images.train
        return images[order], labels[order]

    def hits(self, split: str) -> Tensor:
        """See `Task.hits`."""
        images, labels = self.images.held_out[split]
        hits: Tensor = self.model(images).argmax(dim=1) == labels
        return hits


class MovieLens:
    """HR@10 on MovieLens-100k; a pair is a row [2] of the joined table of embeddings."""

    def __init__(self, case: Case, data_dir: Path) -> None:
        self.films = _movielens(data_dir)
        self.model: nn.Module = models.JoinedNcf(self.films.user_count, self.films.item_count, case.size)
        self.examples = len(self.films.users) * (1 + NEGATIVES)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Task.loss`."""
        return F.binary_cross_entropy_with_logits(outputs, targets)

    def epoch(self) -> tuple[Tensor, Tensor]:
        """Returns pairs [N, 2] and labels [N], with new negatives."""
        films = self.films
        negatives = films.draw(films.users.repeat(NEGATIVES))
        items = torch.cat([films.items, negatives])
        order = torch.randperm(self.examples)
        positive = len(films.users)
        users = films.users[order % positive]
        return torch.stack([users, items[order] + films.user_count], dim=1), (order < positive).float()

    def hits(self, split: str) -> Tensor:
        """Ranks each user's film among 99 others; a tie is a miss."""
        pairs = self.films.held_out[split]
        scores = torch.cat([self.model(part) for part in torch.split(pairs.flatten(0, 1), PAIRS_PER_CALL)])
        scores = scores.view(pairs.shape[:2])
        return (scores[:, 1:] >= scores[:, :1]).sum(dim=1) < 10


class Films:
    """The ratings, with everything that can be computed once per process."""

    def __init__(self, ratings: data.Ratings) -> None:
        self.users, self.items = ratings.users, ratings.items
        self.user_count, self.item_count = ratings.user_count, ratings.item_count
        self.known = torch.zeros(self.user_count * self.item_count, dtype=torch.bool)
        self.known[self.users * self.item_count + self.items] = True
        self.held_out = {
            split: torch.stack([users.unsqueeze(1).expand_as(items), items + self.user_count], dim=2)
            for split, (users, items) in ratings.held_out.items()
        }

    def draw(self, users: Tensor) -> Tensor:
        """Returns an item for each user without an interaction, by rejection."""
        items = torch.randint(self.item_count, users.shape)
        rejected = self.known[users * self.item_count + items].nonzero().squeeze(1)
        while len(rejected):
            items[rejected] = torch.randint(self.item_count, rejected.shape)
            again = users[rejected] * self.item_count + items[rejected]
            rejected = rejected[self.known[again]]
        return items


@cache
def _digits() -> data.Images:
    return data.digits()


@cache
def _movielens(data_dir: Path) -> Films:
    return Films(data.movielens(data_dir))


TASKS: Mapping[str, type[Task]] = {"digits": Digits, "movielens-100k": MovieLens}
