"""The two models as plain PyTorch code: with the initialization of `trainables.models`, without its optimizations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Ncf(nn.Module):
    """NCF's MLP: both embeddings, concatenated, through two hidden layers to a logit."""

    def __init__(self, users: int, items: int, factors: int) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(users, 2 * factors)
        self.item_embedding = nn.Embedding(items, 2 * factors)
        self.hidden1 = nn.Linear(4 * factors, 2 * factors)
        self.hidden2 = nn.Linear(2 * factors, factors)
        self.output = nn.Linear(factors, 1)
        nn.init.normal_(self.user_embedding.weight, std=0.01)
        nn.init.normal_(self.item_embedding.weight, std=0.01)
        for layer in (self.hidden1, self.hidden2, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Returns logits [B] of user and item indices [B]."""
        hidden = torch.cat([self.user_embedding(users), self.item_embedding(items)], dim=-1)
        hidden = torch.relu(self.hidden1(hidden))
        hidden = torch.relu(self.hidden2(hidden))
        logits: Tensor = self.output(hidden)
        return logits.squeeze(-1)


class JoinedNcf(nn.Module):
    """The same network with both embeddings in one table, so that one lookup gathers and concatenates them."""

    def __init__(self, users: int, items: int, factors: int) -> None:
        super().__init__()
        plain = Ncf(users, items, factors)
        self.embedding = nn.Embedding(users + items, 2 * factors)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.cat([plain.user_embedding.weight, plain.item_embedding.weight]))
        self.tower = nn.Sequential(plain.hidden1, nn.ReLU(), plain.hidden2, nn.ReLU(), plain.output)

    def forward(self, pairs: Tensor) -> Tensor:
        """Returns logits [B] of rows of the table [B, 2]: a user, and an item offset by the number of users."""
        logits: Tensor = self.tower(self.embedding(pairs).flatten(1))
        return logits.squeeze(-1)


class SmallVgg(nn.Module):
    """Stages of 3x3 convolution, BatchNorm, ReLU and max-pooling for images of 8x8 pixels, and a linear classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*_stage(1, width), *_stage(width, 2 * width))
        self.classifier = nn.Linear(2 * width * 2 * 2, 10)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [B, 10] of images [B, 1, 8, 8]."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def _stage(channels: int, width: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / (9 * width)))
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
