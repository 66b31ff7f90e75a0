"""A check for CI: our speed relative to alternatives in the same run, with margins for noisy machines.

    python -m benchmarks.regression

The limits are looser than the results in `docs/performance.md`; missing one means that something broke.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks import optimizer_step
from benchmarks.growth import ITEMS, USERS, seconds_of, step_seconds
from benchmarks.rivals.models import JoinedNcf
from trainables.optimizers import fused
from trainables.training.process_memory import keep_freed_memory


@dataclass(frozen=True)
class Check:
    """A measured ratio and its upper (or lower) limit."""

    text: str
    ratio: float
    limit: float
    at_most: bool

    @property
    def passed(self) -> bool:
        """True if the ratio is within its limit."""
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'ok  ' if self.passed else 'FAIL'} {self.text}: {self.ratio:.2f} (limit {sign} {self.limit:g})"


def optimizer_checks() -> list[Check]:
    """Steps relative to torch's AdamW."""
    found = optimizer_step.run(repeats=7)
    limits = (
        ("ratio_to_foreach", "AdamLawn constrained, torch operations", 2.5),
        ("ratio_to_foreach", "AdamLawn constrained", 1.0),
        ("ratio_to_fused", "AdamLawn constrained", 3.0),
        ("ratio_to_fused", "AdamLawn free", 1.8),
        ("ratio_to_fused", "Lawn(AdamW fused) constrained", 6.0),
    )
    return [
        Check(f"{name}, {group.replace('_', ' ')} AdamW", found[group][name]["median"], limit, at_most=True)
        for group, name, limit in limits
    ]


def pack_checks() -> list[Check]:
    """Steps of NCF with 8 factors: alone relative to autograd, and stacked relative to one model."""
    alone, autograd = statistics.median(step_seconds(8, 1, 1000)), statistics.median(autograd_seconds())
    solo = statistics.median(step_seconds(8, 1, 256) + step_seconds(8, 1, 256))
    stacked = statistics.median(step_seconds(8, 16, 256)) / 16
    found = (
        ("batch 1000: plain PyTorch's step, relative to a pack's of one", autograd / alone, 1.0),
        ("batch 256: throughput of a pack of 16, relative to solo runs", solo / stacked, 2.0),
    )
    return [Check(f"NCF, 8 factors, {text}", ratio, limit, at_most=False) for text, ratio, limit in found]


def autograd_seconds(factors: int = 8, batch: int = 1000) -> list[float]:
    """Returns the seconds of single steps as people write them, with both embeddings in one table and fused AdamW."""
    model = JoinedNcf(USERS, ITEMS, factors)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    pairs = torch.stack([torch.randint(USERS, (batch,)), USERS + torch.randint(ITEMS, (batch,))], dim=1)
    targets = (torch.rand(batch) < 0.2).float()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(model(pairs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return seconds_of(step, inner=16)


GROUPS: tuple[Callable[[], list[Check]], ...] = (optimizer_checks, pack_checks)


def main() -> None:
    """Prints every check; exits with 0 if all passed, after a second try for those that did not."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if not fused.build_kernels():
        sys.exit("cannot compile kernels on this machine, and the limits are for compiled kernels")
    good = True
    for measure in GROUPS:
        checks = measure()
        checks = checks if all(check.passed for check in checks) else measure()
        print(*checks, sep="\n", flush=True)
        good &= all(check.passed for check in checks)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
