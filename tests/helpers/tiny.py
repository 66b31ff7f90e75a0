"""The smallest spaces that a launch trains: a data set made in memory, one batch size, a small grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lawn_tune.cells import Cell
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space


def tiny_space(
    description: str,
    *,
    width: int,
    confirm: Sequence[int],
    batch_size: int,
    epochs: int,
    peak_lr: Sequence[float],
    weight_decay: Sequence[float],
    free_epochs: Sequence[float] = (),
) -> str:
    """Returns a space as text: Adam, and Adam-LAWN if there are free epochs, at the same rates."""
    lawn = f"""[optimizers.adam-lawn]
peak_lr = {list(peak_lr)}
warmup_epochs = [1]
free_epochs = {list(free_epochs)}
"""
    return f"""
description = "{description}"
dataset = "synthetic"
loss = "cross-entropy"
metric = "accuracy"
[model]
name = "small-vgg"
width = {width}
[seeds]
search = [0]
confirm = {list(confirm)}
[[budgets]]
batch_size = {batch_size}
epochs = {epochs}
[optimizers.adam]
peak_lr = {list(peak_lr)}
warmup_epochs = [1]
weight_decay = {list(weight_decay)}
{lawn if free_epochs else ""}"""


def tiny_cells(folder: Path, space: str) -> tuple[Cell, ...]:
    """Returns the plan of a space, whose file is written to the folder."""
    file = folder / "tiny.toml"
    file.write_text(space)
    return plan(load_space(file))


SPACE = tiny_space(
    "three packs", width=2, confirm=[1], batch_size=64, epochs=20, peak_lr=[0.01, 0.02], weight_decay=[0.1]
)
TWO_CELLS = tiny_space(
    "three points a cell",
    width=4,
    confirm=[11, 12],
    batch_size=64,
    epochs=3,
    peak_lr=[0.01, 0.02, 0.03],
    weight_decay=[0.1],
    free_epochs=[1],
)
TWO_CELLS_TRIALS = 2 * (3 + 2)
ENDLESS = tiny_space(
    "Never ends", width=2, confirm=[11], batch_size=32, epochs=100_000, peak_lr=[0.003, 0.01], weight_decay=[0.1]
)
