"""BatchNorm's running statistics over the micro-batches of a step."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.micro_batches import Twice, build, steps


@pytest.mark.parametrize("micro_batches", [2, 1, 3, 11])
def test_running_statistics_are_those_of_the_model_run_on_each_micro_batch_in_turn(micro_batches: int) -> None:
    torch.manual_seed(0)
    model = Twice()
    what, generator = build(model), torch.Generator().manual_seed(0)
    steps(what, 3, micro_batches)
    for _ in range(3):
        for x in torch.split(torch.randn(4 * micro_batches, 5, generator=generator) + 2, 4):
            model(x)
    for name, buffer in model.named_buffers():
        for row in what.state.buffers[name]:
            torch.testing.assert_close(row, buffer, rtol=1e-5, atol=1e-6, msg=name)
