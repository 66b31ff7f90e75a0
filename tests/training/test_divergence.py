"""A member that diverges in a pack does so at the same epoch, with the same numbers, however often training is cut."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.tasks import curve, pack, point, run, task, training
from trainables.training.loop import Training

EPOCHS = 10


@pytest.mark.parametrize("seed", range(4))
def test_a_divergence_survives_interruptions_around_it(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    # The rate grows through the whole training, so that its slope decides the epoch at which it is too much.
    rates = [0.01, 10.0 ** draw.uniform(20, 36), 0.003, 10.0 ** draw.uniform(20, 36)]
    points = [point("sgd", peak_lr=rate, warmup_epochs=float(EPOCHS)) for rate in rates]
    config = pack(task("sgd", epochs=EPOCHS), points)
    records, ends = run(config)
    diverged = [end.epochs for end in ends if end.outcome == "diverged"]
    assert len(diverged) == 2

    stops = sorted(
        {*(epoch + shift for epoch in diverged for shift in (-1, 0)), draw.randint(1, EPOCHS - 1)} - {0, EPOCHS}
    )
    file = tmp_path / "checkpoint.safetensors"
    for stop in stops:
        asked = iter(range(EPOCHS))
        began = stops[stops.index(stop) - 1] if stop != stops[0] else 0
        _, none = run(config, checkpoint=file, should_stop=lambda: next(asked) + 1 + began == stop)  # noqa: B023
        assert not none
    resumed, again = run(config, checkpoint=file)
    for member, (end, other) in enumerate(zip(ends, again, strict=True)):
        assert (end.outcome, end.epochs, end.examples) == (other.outcome, other.epochs, other.examples)
        np.testing.assert_equal(curve(records, member), curve(resumed, member))


VARIANCE = "features.0.1.running_var"


def harm_weight(session: Training, value: float) -> Tensor:
    return session.pack.state.weights[1, 7].fill_(value)


def harm_statistic(session: Training, value: float) -> Tensor:
    return session.pack.state.buffers[VARIANCE][1, 2].fill_(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("harm", [harm_weight, harm_statistic])
def test_one_number_that_is_not_finite_makes_its_row_diverged(
    harm: Callable[[Training, float], Tensor], value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the epoch's last step, when no loss shows it: one weight of 500, or one of BN's running variances."""
    session = training(pack(task("adam"), [point("adam", peak_lr=rate) for rate in (0.01, 0.02, 0.03)]))
    step, taken = session.pack.apply, []

    def harmed(lr: Tensor) -> Tensor:
        losses = step(lr)
        taken.append(losses)
        if len(taken) == session.steps_per_epoch:
            harm(session, value)
        return losses

    monkeypatch.setattr(session.pack, "apply", harmed)
    record = session.run_epoch()
    assert torch.stack(taken).isfinite().all()
    assert session.diverged == {1: 1}
    assert [row.members for row in session.rows] == [(0,), (2,)]
    assert [member is None for member in record.series["test/accuracy"]] == [False, True, False]
    session.run_epoch()
    assert session.diverged == {1: 1}


def test_a_counter_of_whole_numbers_is_no_divergence() -> None:
    session = training(pack(task("adam"), [point("adam")]))
    session.pack.state.buffers["features.0.1.num_batches_tracked"].fill_(2**62)
    session.run_epoch()
    assert not session.diverged
