"""A member that diverges in a pack does so at the same epoch, with the same numbers, however often training is cut."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tasks import curve, pack, point, run, task

from trainables.trial import Interrupted

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
        with pytest.raises(Interrupted):
            run(config, checkpoint=file, should_stop=lambda: next(asked) + 1 + began == stop)  # noqa: B023
    resumed, again = run(config, checkpoint=file)
    for member, (end, other) in enumerate(zip(ends, again, strict=True)):
        assert (end.outcome, end.epochs, end.examples) == (other.outcome, other.epochs, other.examples)
        np.testing.assert_equal(curve(records, member), curve(resumed, member))
