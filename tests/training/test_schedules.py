"""Laws of the learning-rate schedules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.tasks import SCHEDULES
from trainables.training.schedules import lr_factor

TOTALS = st.integers(2, 400)


def factors(schedule: str, warmup: float, total: int) -> Tensor:
    return lr_factor(schedule, torch.arange(total), torch.tensor([[warmup]]), total)[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(total=TOTALS, share=st.floats(0, 0.9))
def test_rises_to_the_peak_then_falls_towards_zero(schedule: str, total: int, share: float) -> None:
    values = factors(schedule, share * total, total)
    top = int(values.argmax())
    assert (values[: top + 1].diff() >= 0).all()
    assert (values[top:].diff() <= 1e-12).all()
    assert 0 < values.max() <= 1
    assert (values > 0).all(), "no step is spent at rate 0"


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(total=st.integers(4, 400), warmup=st.integers(0, 100))
def test_reaches_the_peak_exactly_when_whole_steps_allow_it(schedule: str, total: int, warmup: int) -> None:
    values = factors(schedule, float(min(warmup, total - 2)), total)
    assert values.max() == 1


@given(total=TOTALS)
def test_linear_without_warmup_is_a_straight_line_to_zero(total: int) -> None:
    assert torch.allclose(factors("linear", 0.0, total), 1 - torch.arange(total).double() / total)


def test_linear_at_named_steps() -> None:
    values = factors("linear", 4.0, 12)
    assert values[:5].tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert values[-1].item() == pytest.approx(1 / 8)


def test_cosine_is_half_way_in_the_middle_of_the_decay() -> None:
    assert factors("cosine", 4.0, 12)[8].item() == pytest.approx(0.5)


def test_each_row_has_its_own_warmup() -> None:
    both = lr_factor("linear", torch.arange(10), torch.tensor([[0.0], [5.0]]), 10)
    assert torch.equal(both[0], factors("linear", 0.0, 10))
    assert torch.equal(both[1], factors("linear", 5.0, 10))
