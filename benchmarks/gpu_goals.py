"""What the benchmark of a GPU should reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A bound on one number of the results, set for an H100 before any measurement.

    Args:
        keys: where the number is.
        bar: the bound.
        least: whether the number should be at least that, or at most.
    """

    keys: tuple[str, ...]
    bar: float
    least: bool = False

    def met(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the bar, the number and whether it was reached; None for both where it was not measured."""
        found: Any = results
        for key in self.keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        number = found["median"] if isinstance(found, Mapping) else found
        reached = None if number is None else number >= self.bar if self.least else number <= self.bar
        bar = f"{'at least' if self.least else 'at most'} {short(self.bar)}"
        return {"bar": bar, "measured": number, "reached": reached}


def short(number: float) -> str:
    """Returns a number to four digits, in millions from a million on."""
    return f"{number / 1e6:.4g} million" if number >= 1e6 else f"{number:.4g}"


GOALS = {
    "AdamLawn's constrained step / fused AdamW's": Goal(
        ("optimizer_step", "ratio_to AdamW fused", "AdamLawn constrained"), 1.8
    ),
    "AdamLawn's constrained step, share of the memory bandwidth": Goal(
        ("optimizer_step", "share_of_bandwidth", "AdamLawn constrained"), 0.7, least=True
    ),
    "one NCF at batch 1,048,576, TF32, examples/s": Goal(
        ("ncf_large_batch", "examples_per_second", "tf32"), 50e6, least=True
    ),
    "one NCF at batch 1,048,576, bfloat16, examples/s": Goal(
        ("ncf_large_batch", "examples_per_second", "bfloat16"), 75e6, least=True
    ),
    "NCF in packs of the best size / one model, examples/s, lowest of all cases": Goal(
        ("packs", "lowest_best_speed_up"), 10, least=True
    ),
    "epoch of VGG-19 / compiled plain loop": Goal(("vgg19", "ratio_to compiled loop", "pack"), 1.05),
    "Table 4, MovieLens-100k, GPU hours": Goal(("table4", "gpu_hours"), 1.0),
}
