"""A small study for clusters, and the command that launches it."""

from __future__ import annotations

SPACE = """
description = "Seconds a trial"
dataset = "synthetic"
loss = "cross-entropy"
metric = "accuracy"
[model]
name = "small-vgg"
width = 4
[seeds]
search = [0]
confirm = [11]
[[budgets]]
batch_size = 32
epochs = 80
[optimizers.adam]
peak_lr = [0.003, 0.01]
warmup_epochs = [1]
weight_decay = [0.1]
[optimizers.adam-lawn]
peak_lr = [0.003, 0.01]
warmup_epochs = [1]
free_epochs = [3]
"""
TRIALS = 2 * (2 + 1)
LAUNCH = ("launch", "tiny.toml", "--pack-size", "1")
