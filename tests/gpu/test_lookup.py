"""Lookups on a device, alone and stacked: what they return, and sums of their gradients, to the last bit every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from benchmarks.steps import pack_of
from tests.helpers.graphs import stand_in
from tests.helpers.steps import ENOUGH
from trainables.losses import bce
from trainables.models.lookup import UNSORTED, lookup
from trainables.models.ncf import Ncf
from trainables.optimizers import fused
from trainables.training import graphed
from trainables.training.seeding import make_deterministic

__all__ = ["stand_in"]

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


@pytest.mark.usefixtures("_surroundings")
@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("batch", [7, UNSORTED + 1000], ids=["few", "many"])
def test_steps_of_lookups_have_the_bits_of_launches_in_graphs(
    rows: int, batch: int, device: torch.device, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sums many indices must not ask the host how many different ones there are."""
    if device.type == "cpu":
        request.getfixturevalue("stand_in")
        monkeypatch.setattr(fused, "usable", lambda *tensors: False)
    make_deterministic(0)

    def trained() -> tuple[Tensor, int]:
        torch.manual_seed(0)
        models = [Ncf(users=USERS, items=USERS, factors=SIZE, init="xavier") for _ in range(rows)]
        pack = pack_of(models, bce, device, "float32")
        rates = torch.full((rows, 1), 0.01, dtype=torch.float64, device=device)
        for _ in range(ENOUGH + 4):
            users, items = (torch.randint(USERS, (batch,)).to(device) for _ in range(2))
            pack.gradients((users, items), (users > items).float(), shared=True)
            pack.apply(rates)
        return pack.state.weights, pack.graphs.replays

    weights, replays = trained()
    assert replays > 4
    monkeypatch.setattr(graphed, "backend_of", lambda device: None)
    expected, replays = trained()
    assert replays == 0
    assert weights.equal(expected)


def found_in(table: Tensor, index: Tensor) -> Tensor:
    if len(table) == 1:
        return lookup(table[0], index).unsqueeze(0)
    found: Tensor = torch.vmap(lookup, in_dims=(0, None if index.dim() == 1 else 0))(table, index)
    return found
