"""Whether trials of a user's workload can be trained at once: two of them, for a step, stacked and one by one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch

from trainables.out_of_memory import memory_ended
from trainables.tasks import PackConfig, Trial
from trainables.training.loop import Training
from trainables.training.seeding import epoch_generator, seed_step
from trainables.workloads.base import Workload
from trainables.workloads.own_errors import reason

EXAMPLES = 32
"""Most examples of the step (our choice)."""

TOLERANCES = {"float32": 0.01, "bfloat16": 0.1}
"""Relative difference that rounding may make: stacked kernels sum in another order, convolutions in TF32 (ours)."""

CAUSES = {
    "data-dependent control flow": "control flow depends on a value",
    "calling .item()": "a value is read from a tensor",
    "dynamic shape": "a shape depends on a value",
    "random operation": "it draws random numbers, as dropout does",
}
"""What torch.vmap says → what that means; other texts of it are shown as they are."""


class Unpackable(RuntimeError):
    """Why trials of a workload are trained one at a time, in one line."""


_verdicts: WeakKeyDictionary[Workload, str] = WeakKeyDictionary()


def check_packs(config: PackConfig, workload: Workload, device: torch.device) -> None:
    """Compares a step of two stacked trials with one of each alone, once for each workload.

    Args:
        config: a pack of the workload.

    Raises:
        Unpackable: the stacked step is impossible, or another one.
    """
    if workload not in _verdicts:
        _verdicts[workload] = _verdict(config, workload, device)
    if cause := _verdicts[workload]:
        name = config.task.dataset
        raise Unpackable(f"{name} cannot be trained in packs, its trials are trained one at a time: {cause}")


def _verdict(config: PackConfig, workload: Workload, device: torch.device) -> str:
    first = config.members[0]
    pair = (first, replace(first, seed=first.seed + 1))
    alone = [_step(config, (member,), workload, device) for member in pair]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a slow operation is still a right one
            stacked = _step(config, pair, workload, device)
    except Exception as error:
        if memory_ended(error):
            raise
        text = reason(error)
        known = [(words, cause) for words, cause in CAUSES.items() if words in text]
        place = text[text.rfind(" (") :] if text.endswith(")") else ""
        return f"{known[0][1]}{place}" if known else text
    tolerance = TOLERANCES[config.task.precision]
    for row, numbers in enumerate(alone):
        for (name, one), both in zip(numbers.items(), stacked.values(), strict=True):
            if not math.isclose(one[0], both[row], rel_tol=tolerance, abs_tol=1e-5):
                return f"{name} of a stacked step is {both[row]:.6g}, and {one[0]:.6g} alone"
    return ""


def _step(
    config: PackConfig, members: Sequence[Trial], workload: Workload, device: torch.device
) -> dict[str, Sequence[float]]:
    """Returns numbers of the first step and the evaluation after it, each of every member."""
    training = Training(replace(config, members=tuple(members)), workload, device)
    seeds = [member.seed for member in members]
    size = min(config.task.at_once, EXAMPLES)
    batch = next(next(workload.batches([epoch_generator(seed, 0) for seed in seeds], size)))
    seed_step(seeds[0], 0)
    training.pack.gradients(batch.inputs, batch.targets, shared=len(seeds) == 1)
    loss = training.pack.apply(torch.zeros(len(seeds), 1, dtype=torch.float64, device=device))
    outputs = training.pack.predict(*next(workload.probe()).inputs)
    buffers = [buffer.double().reshape(len(seeds), -1) for buffer in training.pack.state.buffers.values()]
    found = {"the loss": loss, "the norm of the gradient": training.pack.grad_norm}
    if buffers:
        found["the norm of the buffers"] = torch.cat(buffers, dim=1).norm(dim=1)
    found["the norm of the outputs"] = outputs.double().flatten(1).norm(dim=1)
    return {name: values.tolist() for name, values in found.items()}
