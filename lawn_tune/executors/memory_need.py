"""How much memory of its machine a job asks for: plain arithmetic over the pack, so that a driver needs no torch."""

from __future__ import annotations

from trainables.tasks import AHEAD, LANES, PackConfig, Task

MIB, GIB = 2**20, 2**30
FLOAT = 4

PROCESS = 880 * MIB
"""A worker without data and model: Python, torch and Ray (a process without Ray had peaks of 600 to 700 MB)."""

GPU_PROCESS = 1900 * MIB
"""The same with the libraries that drive a GPU (our choice, not measured)."""

COPIES = 3
"""Copies of weights and optimizer state in addition to themselves, made by an update and a checkpoint."""

UNKNOWN = GIB
"""Of a pack whose model's footprint is not known, besides process and data (our choice)."""

FORWARD = 3
"""Copies of a layer's output while a model is evaluated, which happens row by row."""

CLASS_SLOTS = 3
"""Buffers that a torch optimizer class is taken to have, with what LAWN around it copies in a step (our choice)."""


def memory_need(pack: PackConfig, *, gpu: bool = False, ranks: int = 1) -> int:
    """Returns the host memory to ask for, bytes, rounded up to a step so that the packs of a cell ask for the same.

    need = process + data + ahead + 4·(K·P·((2 + slots)·COPIES + lanes) + K·B·A·kept + E·L·FORWARD)

    with K trials, P weights of one model, B examples at once, A the floats that all layers put out for one example, L
    those of the layers that are kept at once in an evaluation, E its examples, and lanes the sums of micro-batches
    besides the first. Ahead are batches of decoded images, of each seed: those that wait, the one in decoding and the
    one that is trained on. On GPUs it is process + data + ahead alone, of every rank, and of the process that watches
    them. It is meant to lie above what is used, and at most 2.5 times as high (our choice; the factors come from peaks
    of packs on a CPU, which tests/launching/test_memory_need.py takes again).
    """
    task, data = pack.task, pack.task.dataset_row
    model, rows, seeds = task.footprint, len(pack.members), len({member.seed for member in pack.members})
    batch = min(task.at_once, data.full_examples)
    evaluated = min(model.evaluated if model else 0, data.full_examples)
    held = data.resident + (AHEAD + 2) * max(seeds * batch, evaluated) * data.decoded
    if gpu:
        return step_above(ranks * (GPU_PROCESS + held) + (PROCESS if ranks > 1 else 0))
    if model is None:
        return step_above(PROCESS + held + UNKNOWN)
    slots = CLASS_SLOTS if task.optimizer_class else len(task.method.rule.state)
    lanes = min(LANES, -(-task.batch_size // task.at_once)) - 1
    state = rows * model.weights * ((2 + slots) * COPIES + lanes)
    kept = model.kept[0] if rows == 1 else model.kept[1]
    floats = rows * batch * kept * model.floats + evaluated * FORWARD * (model.largest or model.floats)
    return step_above(PROCESS + held + FLOAT * (state + floats))


def too_large(task: Task) -> str:
    """Returns what to do where a trial of a task runs out of memory alone."""
    if task.by_function:
        return "one trial alone ran out of memory; let the training function take fewer examples at once"
    half = (min(task.at_once, task.examples) + 1) // 2
    return f"one trial alone ran out of memory; under [[budgets]], micro_batch = {half} or less takes less at once"


def step_above(need: int) -> int:
    """Returns the lowest of 1, 1.5, 2, 3, 4, 6, 8, … GiB that is not below `need` bytes."""
    step = GIB
    while 3 * step // 2 < need:
        step *= 2
    return step if step >= need else 3 * step // 2
