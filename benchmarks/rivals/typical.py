"""Ray Tune as in most public code: DataLoader, default AdamW, LambdaLR, negatives drawn in a Python loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.rivals import data, models
from benchmarks.rivals.case import Case, Point, Report, rate_factor

NEGATIVES = 4
IMAGES_PER_CALL = 256


def train(case: Case, point: Point, data_dir: Path, report: Report) -> None:
    """Trains one point from its first epoch to its last."""
    torch.manual_seed(0)
    task = TASKS[case.dataset](case, data_dir)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=point["peak_lr"], weight_decay=point["weight_decay"])
    scheduler = LambdaLR(optimizer, rate_factor(point, task.examples, case.epochs))
    for epoch in range(case.epochs):
        loader = DataLoader(task.epoch(), batch_size=int(point["batch_size"]), shuffle=True)
        task.model.train()
        total = 0.0
        for *inputs, targets in loader:
            optimizer.zero_grad()
            loss = task.loss(task.model(*inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(targets)
        task.model.eval()
        with torch.no_grad():
            metrics = {split: task.evaluate(split) for split in ("validation", "test")}
        report({"epoch": epoch + 1, "train_loss": total / task.examples} | metrics)


class Task(Protocol):
    """A dataset with its model."""

    model: nn.Module
    loss: nn.Module
    examples: int

    def __init__(self, case: Case, data_dir: Path) -> None: ...

    def epoch(self) -> TensorDataset:
        """Returns an epoch's examples: inputs and, as the last tensor, targets."""
        ...

    def evaluate(self, split: str) -> float:
        """Returns the metric on a split, percent."""
        ...


class Digits:
    """Accuracy on the digits."""

    def __init__(self, case: Case, data_dir: Path) -> None:
        self.images = data.digits()
        self.model: nn.Module = models.SmallVgg(case.size)
        self.loss: nn.Module = nn.CrossEntropyLoss()
        self.examples = len(self.images.train[1])

    def epoch(self) -> TensorDataset:
        """See `Task.epoch`."""
        return TensorDataset(*self.images.train)

    def evaluate(self, split: str) -> float:
        """See `Task.evaluate`."""
        correct, count = 0, 0
        for images, labels in DataLoader(TensorDataset(*self.images.held_out[split]), batch_size=IMAGES_PER_CALL):
            correct += (self.model(images).argmax(dim=1) == labels).sum().item()
            count += len(labels)
        return 100 * correct / count


class MovieLens:
    """HR@10 on MovieLens-100k."""

    def __init__(self, case: Case, data_dir: Path) -> None:
        self.ratings = data.movielens(data_dir)
        self.pairs = list(zip(self.ratings.users.tolist(), self.ratings.items.tolist(), strict=True))
        self.known = set(self.pairs)
        self.model: nn.Module = models.Ncf(self.ratings.user_count, self.ratings.item_count, case.size)
        self.loss: nn.Module = nn.BCEWithLogitsLoss()
        self.examples = len(self.pairs) * (1 + NEGATIVES)

    def epoch(self) -> TensorDataset:
        """Returns users, items and labels, with new negatives."""
        users, items, labels = [], [], []
        for user, item in self.pairs:
            users.append(user)
            items.append(item)
            labels.append(1.0)
            for _ in range(NEGATIVES):
                negative = np.random.randint(self.ratings.item_count)
                while (user, negative) in self.known:
                    negative = np.random.randint(self.ratings.item_count)
                users.append(user)
                items.append(negative)
                labels.append(0.0)
        return TensorDataset(torch.tensor(users), torch.tensor(items), torch.tensor(labels))

    def evaluate(self, split: str) -> float:
        """Ranks each user's film among 99 others; a tie is a miss."""
        hits = 0
        for user, items in zip(*self.ratings.held_out[split], strict=True):
            scores = self.model(user.expand_as(items), items)
            hits += _hit(scores)
        return 100 * hits / len(self.ratings.held_out[split][0])


def _hit(scores: Tensor) -> bool:
    return (scores[1:] >= scores[0]).sum().item() < 10


TASKS: Mapping[str, type[Task]] = {"digits": Digits, "movielens-100k": MovieLens}
