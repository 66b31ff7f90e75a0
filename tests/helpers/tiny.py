"""The least space that a launch trains: a cell of two points, confirmed with one seed."""

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
