"""Trials to packs: which trials one worker trains at once, by the sizes that a cell's first launch chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from math import ceil, fsum

from lawn_tune.cells import PHASES, Cell, Packing, Phase
from trainables.tasks import Trial

MAX_SIZE = 16
EXAMPLES = 16_384
"""Rows of a pack times batch size up to which a device is likely to have room left (our choice, from CPU timings:
x4 for NCF with 8 factors at batch size 256, x3 at 1000, x2 for a small VGG at 64, nothing at 10000 and above;
docs/performance.md). Larger packs would gain a little more and leave workers without one."""

GPU_MAX_SIZE = 64
GPU_OUTPUTS = 2**20 * 193
"""The same for a GPU, in numbers that all layers put out for these examples: 2^20 examples of NCF with 64 factors (our
choice, from timings of NCF on one H200). In one such model's step an example takes 50 to 90 ns at batch size 10,000,
11 at 100,000, 7.4 at 400,000 and 6.3 at 2^20: below, launches take a part of the time, which a pack shares. In packs of
64, the largest measured, each model takes at most two thirds of its time in packs of 16. A model whose layers put out
more numbers fills a GPU with fewer examples; one whose size is not known is packed as on a CPU, with `MAX_SIZE`."""


def largest_size(cell: Cell, phase: Phase, on_gpu: bool = False) -> int:
    """Returns the most trials that a pack should hold: many for small batches, 1 where one fills a device.

    It depends on the plan and the kind of device alone, and is the best size for a single worker.
    """
    trials = len(cell.protocol.confirm_seeds) if phase == "confirm" else cell.grid.size
    most = 1 if cell.task.alone else cell.task.model_row.largest_pack
    examples, size = _room(cell, on_gpu)
    return min(max(examples // cell.task.at_once, 1), size, max(trials, 1), most)


def _room(cell: Cell, on_gpu: bool) -> tuple[int, int]:
    """Returns the examples and the trials that a device has room for."""
    footprint = cell.task.footprint if on_gpu else None
    if footprint is None or footprint.floats < 1:
        return EXAMPLES, MAX_SIZE
    return max(GPU_OUTPUTS // footprint.floats, EXAMPLES), GPU_MAX_SIZE


def pack_size(cell: Cell, phase: Phase, on_gpu: bool = False) -> int:
    """Returns K, the most trials a pack of `cell` holds: as chosen for its launch, else `largest_size`."""
    return largest_size(cell, phase, on_gpu) if cell.packing is None else cell.packing.size(phase)


def largest_packs(cell: Cell, on_gpu: bool = False) -> Cell:
    """Returns a cell with the packing that it has, or else with packs of `largest_size`."""
    if cell.packing is not None:
        return cell
    search, confirm = (largest_size(cell, phase, on_gpu) for phase in PHASES)
    return cell.packed(Packing(search=search, confirm=confirm, workers=None, plan=cell.plan_id))


def make_packs(cell: Cell, phase: Phase, trials: Sequence[Trial], size: int | None = None) -> list[tuple[Trial, ...]]:
    """Divides the trials of one phase into packs: each trial in exactly one, in plan order as far as possible.

    A search pack has one seed. Its trials that differ only in when their control begins are neighbors, and in one pack
    when they fit, because they share the free phase. Packs are as few as that allows, and as equal in size as can be.

    Args:
        cell, phase: what the trials belong to.
        trials: all of the phase or any part of it.
        size: the most trials of a pack; `pack_size` if None, which is the same for every launch of the cell.

    Raises:
        ValueError: size is below 1.
    """
    limit = pack_size(cell, phase) if size is None else 1 if cell.task.alone else size
    if limit < 1:
        raise ValueError(f"a pack holds at least 1 trial, got a size of {limit}")
    if phase == "confirm":
        return _join([(trial,) for trial in trials], limit)
    packs: list[tuple[Trial, ...]] = []
    for seed in dict.fromkeys(trial.seed for trial in trials):
        siblings = _siblings(cell, [trial for trial in trials if trial.seed == seed])
        packs += _join([part for group in siblings for part in _cut(group, limit)], limit)
    return packs


def _siblings(cell: Cell, trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    groups: dict[tuple[tuple[str, float], ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(cell.siblings_key(trial), []).append(trial)
    return [tuple(group) for group in groups.values()]


def _cut(group: tuple[Trial, ...], limit: int) -> list[tuple[Trial, ...]]:
    """Cuts a group that is too large for one pack into equal parts, the larger ones first."""
    size, count = len(group), ceil(len(group) / limit)
    return [group[ceil(size * i / count) : ceil(size * (i + 1) / count)] for i in range(count)]


def _join(parts: list[tuple[Trial, ...]], limit: int) -> list[tuple[Trial, ...]]:
    """Joins adjacent parts into packs of at most `limit`: the fewest, then the most even (lowest sum of squares)."""
    best: list[tuple[int, int, int]] = [(0, 0, 0)]  # for the first n parts: packs, squares, where the last one starts
    for end in range(1, len(parts) + 1):
        choices: list[tuple[int, int, int]] = []
        length = 0
        for start in reversed(range(end)):
            length += len(parts[start])
            if length > limit:
                break
            packs, squares, _ = best[start]
            choices.append((packs + 1, squares + length * length, -start))
        best.append(min(choices))
    packed: list[tuple[Trial, ...]] = []
    end = len(parts)
    while end:
        start = -best[end][2]
        packed.append(tuple(trial for part in parts[start:end] for trial in part))
        end = start
    return packed[::-1]


def coarse_to_fine(packs: Sequence[Sequence[Trial]], done: Iterable[Trial] = ()) -> list[int]:
    """Returns the positions of search packs in the order to train them: a study stopped early has seen its whole range.

    Seed by seed, the next pack is the one with the most levels that no trial before it has, then with those that the
    fewest have; of equal ones the first.

    Args:
        packs: as `make_packs` returns them.
        done: trials that have a result.
    """
    seen = Counter(level for trial in done for level in _levels_of(trial))
    levels = [{level for trial in pack for level in _levels_of(trial)} for pack in packs]
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(pack[0].seed for pack in packs))}

    def rank(i: int) -> tuple[int, int, float, int]:
        counts = [seen[level] for level in levels[i]]
        return seeds[packs[i][0].seed], -counts.count(0), -fsum(1 / (1 + count) for count in counts), i

    waiting, order = [rank(i) for i in range(len(packs))], []
    heapify(waiting)
    while waiting:
        i = waiting[0][-1]
        if (now := rank(i)) != waiting[0]:  # ranks only fall, so the first one that is up to date is the best
            heapreplace(waiting, now)
            continue
        heappop(waiting)
        order.append(i)
        seen.update(levels[i])
    return order


def _levels_of(trial: Trial) -> Iterable[tuple[int, str, float]]:
    return ((trial.seed, name, value) for name, value in trial.hyperparameters.items())
