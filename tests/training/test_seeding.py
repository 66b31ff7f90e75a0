"""One seed decides every random number, and nothing that came before does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from trainables.training.seeding import derived_seed, epoch_generator, make_deterministic, seeded_init

SEEDS = (0, 1, 2**32 - 1, 2**32 + 1, 2**40)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    ours, numpys, torchs = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    yield
    random.setstate(ours)
    np.random.set_state(numpys)
    torch.random.set_rng_state(torchs)
    torch.set_default_dtype(torch.float32)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_decides_every_generator_whatever_was_drawn_before(seed: int) -> None:
    make_deterministic(seed)
    first = draws()
    draws()
    torch.set_default_dtype(torch.float64)
    make_deterministic(seed)
    assert draws() == first
    assert torch.get_default_dtype() == torch.float32


def test_seeds_next_to_each_other_draw_different_numbers() -> None:
    drawn = []
    for seed in SEEDS[:3]:
        make_deterministic(seed)
        drawn.append(draws())
    for values in zip(*drawn, strict=True):
        assert len(set(values)) == 3


def test_a_gpu_chooses_no_kernel_by_its_speed_and_fills_no_new_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[bool, bool]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch, "use_deterministic_algorithms", lambda mode, *, warn_only: asked.append((mode, warn_only))
    )
    memory: Any = torch.utils.deterministic
    monkeypatch.setattr(memory, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    make_deterministic(0)
    assert asked == [(True, True)]
    assert torch.backends.cudnn.benchmark is False
    assert memory.fill_uninitialized_memory is False


def test_purposes_have_seeds_of_their_own() -> None:
    seeds = [derived_seed(s, *purpose) for s in SEEDS for purpose in (("init",), ("epoch", 0), ("epoch", 1))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    first = torch.rand(3, generator=epoch_generator(1, 2))
    assert torch.equal(first, torch.rand(3, generator=epoch_generator(1, 2)))
    assert not torch.equal(first, torch.rand(3, generator=epoch_generator(1, 3)))


def test_building_a_model_leaves_the_global_generator_as_it_was() -> None:
    before = torch.random.get_rng_state()
    with seeded_init(5):
        first = torch.rand(3)
    with seeded_init(5):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.random.get_rng_state(), before)
