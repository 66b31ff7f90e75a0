"""The whole command for a grid of four points, where starting and confirming weigh more than in a long search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.rivals.case import Case
from benchmarks.throughput import race
from trainables.data import check

CASE = Case(
    dataset="movielens-100k",
    size=8,
    epochs=20,
    batch_size=(1000,),
    peak_lr=(0.01, 0.03),
    warmup_epochs=(1.0,),
    weight_decay=(0.1, 0.5),
)


def run(data_dir: Path, repeats: int = 3, slow_repeats: int = 1) -> dict[str, Any]:
    """Compares commands as `benchmarks.throughput` does, under the key "4 points".

    Args:
        data_dir: folder of the data sets; without MovieLens-100k, nothing is returned.
        repeats: how often the expert and lawn_tune run.
        slow_repeats: how often the typical alternative runs.
    """
    if check(CASE.dataset, data_dir).state != "ready":
        return {}
    return {f"{len(CASE.points)} points": race(CASE, ["typical", "expert"], data_dir.resolve(), repeats, slow_repeats)}
