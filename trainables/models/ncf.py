"""The MLP of neural collaborative filtering, NCF's MLP-3."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.linear import FEW_OUTPUTS, examples_last
from trainables.models.lookup import lookup

PART = 2**20
"""Bytes of the first layer's outputs that a CPU computes at a time, to find them in its cache in the next operation."""
STD = 0.01
"""Standard deviation of the NCF paper's Gaussian initialization."""


class Ncf(nn.Module):
    """A user and an item embedding, concatenated, then a tower of layers that halve in width, down to one logit.

    With f factors: embeddings 2f + 2f; hidden layers 4f (the concatenation, counted as the first), 2f, f; output 1.
    Source: He et al. 2017 as used in the paper's §4.3; counting the concatenation as one of three layers is our choice.

    Args:
        users: number of users.
        items: number of items.
        factors: f, width of the last hidden layer.
        init: "normal-0.01" draws every weight from N(0, 0.01²), which starts on a long plateau; "xavier" draws the
            tower's weights from Glorot's uniform distribution instead. Biases start at 0 in both.
    """

    final_layers: tuple[str, ...] = (
        "user_embedding.weight",
        "item_embedding.weight",
        "hidden1.weight",
        "hidden2.weight",
        "output.weight",
    )
    """The last homogeneous sub-network: the whole network, as ReLU layers without normalization are homogeneous."""

    def __init__(self, *, users: int, items: int, factors: int, init: Literal["normal-0.01", "xavier"]) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(users, 2 * factors)
        self.item_embedding = nn.Embedding(items, 2 * factors)
        self.hidden1 = nn.Linear(4 * factors, 2 * factors)
        self.hidden2 = nn.Linear(2 * factors, factors)
        self.output = nn.Linear(factors, 1)
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding.weight, std=STD)
        for layer in (self.hidden1, self.hidden2, self.output):
            nn.init.zeros_(layer.bias)
            if init == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.normal_(layer.weight, std=STD)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Returns logits [B] of user indices [B] and item indices [B]."""
        # W [e_u; e_i] + b = W_u e_u + W_i e_i + b, without concatenating e_u and e_i.
        left, right = self.hidden1.weight.chunk(2, dim=1)
        by_user = projected(self.user_embedding.weight, left, users)
        by_item = projected(self.item_embedding.weight, right, items)
        parts = zip(*(torch.split(index, self._rows(index)) for index in (users, items)), strict=True)
        logits = [self._tower(by_user(u).add_(by_item(i))) for u, i in parts]
        return torch.cat(logits) if len(logits) > 1 else logits[0]

    def _rows(self, index: Tensor) -> int:
        """Examples computed at a time: all on a GPU, and under autocast, which would add gradients of parts in bf16."""
        if not index.is_cpu or torch.is_autocast_enabled("cpu"):
            return len(index)
        return max(1, PART // (self.hidden2.weight.element_size() * self.hidden2.in_features))

    def _tower(self, hidden: Tensor) -> Tensor:
        hidden = hidden.add_(self.hidden1.bias).relu_()
        if self.hidden2.out_features > FEW_OUTPUTS:
            logits: Tensor = self.output(self.hidden2(hidden).relu_())
            return logits.squeeze(-1)
        hidden = examples_last(hidden, self.hidden2.weight, self.hidden2.bias).relu_()
        return (self.output.weight @ hidden).add_(self.output.bias.unsqueeze(-1)).squeeze(-2)


def build(*, users: int, items: int, factors: int, init: Literal["normal-0.01", "xavier"]) -> Ncf:
    """Returns an NCF for a data set's shape and the options of its row."""
    return Ncf(users=users, items=items, factors=factors, init=init)


def projected(table: Tensor, weight: Tensor, index: Tensor) -> Callable[[Tensor], Tensor]:
    """Returns a function from a part of `index` [B] to W e [B', D'] of the rows e of a table [N, D], for W [D', D].

    Multiplies either every row of the table once or every looked-up row, whichever are fewer.
    """
    if len(index) > len(table):
        return partial(lookup, F.linear(table, weight))
    return lambda part: F.linear(lookup(table, part), weight)
