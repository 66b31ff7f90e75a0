"""Lookups on a device, alone and stacked: what they return, and sums of their gradients, to the last bit every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from trainables.models.lookup import UNSORTED, lookup
from trainables.training.seeding import make_deterministic

ROWS, USERS, SIZE = 3, 50, 8
WAYS = {"solo": (1, True), "stacked, shared batch": (ROWS, True), "stacked, batch a row": (ROWS, False)}


@pytest.mark.parametrize("batch", [7, UNSORTED + 1000], ids=["few", "many"])
@pytest.mark.parametrize("way", WAYS)
def test_lookups_in_tables_that_lie_apart_have_exact_gradients(way: str, batch: int, device: torch.device) -> None:
    """Whole numbers, whose sums are exact in any order."""
    models, shared = WAYS[way]
    flat = torch.randint(-8, 8, (models, 3 + USERS * SIZE + 2)).float().to(device)
    table = flat[:, 3:-2].view(models, USERS, SIZE).requires_grad_()
    index = torch.randint(USERS, (batch,) if shared else (models, batch), device=device)
    slopes = torch.randint(-8, 8, (models, batch, SIZE)).float().to(device)
    found = found_in(table, index)
    every = index.expand(models, batch)
    rows = torch.arange(models, device=device).unsqueeze(1)
    assert found.equal(table.detach()[rows, every])
    (gradient,) = torch.autograd.grad((found * slopes).sum(), table)
    expected = torch.zeros(models, USERS, SIZE, dtype=torch.float64)
    expected.index_put_((rows.cpu().expand(models, batch), every.cpu()), slopes.cpu().double(), accumulate=True)
    assert gradient.cpu().double().equal(expected)


@pytest.fixture
def _surroundings() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_surroundings")
@pytest.mark.parametrize("way", WAYS)
def test_sums_have_the_same_bits_every_time(way: str, device: torch.device) -> None:
    models, shared = WAYS[way]
    batch = UNSORTED + 1000
    table = torch.randn(models, USERS, SIZE, device=device).requires_grad_()
    index = torch.randint(USERS, (batch,) if shared else (models, batch), device=device)
    slopes = torch.randn(models, batch, SIZE, device=device)
    make_deterministic(0)  # as a worker does
    first, *others = (torch.autograd.grad((found_in(table, index) * slopes).sum(), table)[0] for _ in range(5))
    assert all(other.equal(first) for other in others)


def found_in(table: Tensor, index: Tensor) -> Tensor:
    if len(table) == 1:
        return lookup(table[0], index).unsqueeze(0)
    found: Tensor = torch.vmap(lookup, in_dims=(0, None if index.dim() == 1 else 0))(table, index)
    return found
