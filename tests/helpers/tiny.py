"""The smallest spaces that a launch trains: one cell of two points, and two cells of three."""

from __future__ import annotations

SPACE = """
description = "three packs"
dataset = "synthetic"
loss = "cross-entropy"
metric = "accuracy"
[model]
name = "small-vgg"
width = 2
[seeds]
search = [0]
confirm = [1]
[[budgets]]
batch_size = 64
epochs = 20
[optimizers.adam]
peak_lr = [0.01, 0.02]
warmup_epochs = [1]
weight_decay = [0.1]
"""

TWO_CELLS = """
description = "three points a cell"
dataset = "synthetic"
loss = "cross-entropy"
metric = "accuracy"
[model]
name = "small-vgg"
width = 4
[seeds]
search = [0]
confirm = [11, 12]
[[budgets]]
batch_size = 64
epochs = 3
[optimizers.adam]
peak_lr = [0.01, 0.02, 0.03]
warmup_epochs = [1]
weight_decay = [0.1]
[optimizers.adam-lawn]
peak_lr = [0.01, 0.02, 0.03]
warmup_epochs = [1]
free_epochs = [1]
"""
TWO_CELLS_TRIALS = 2 * (3 + 2)
