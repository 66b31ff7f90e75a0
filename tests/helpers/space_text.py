"""A valid space as text, for tests that spoil one thing at a time."""

VALID = """\
description = "a valid space"
dataset = "digits"
loss = "cross-entropy"
metric = "accuracy"
selection = "validation"
reported = "last"
schedule = "linear"
constrain = "all"
precision = "float32"

[model]
name = "small-vgg"
width = 8

[seeds]
search = [0, 1]
confirm = [101, 102, 103]

[[budgets]]
batch_size = 64
epochs = 20

[[budgets]]
batch_size = 512
epochs = 30

[optimizers.adam]
peak_lr = [0.003, 0.01, 0.03]
warmup_epochs = [2]
weight_decay = [0.0, 0.1]

[optimizers.adam-lawn]
peak_lr = [0.003, 0.01, 0.03]
warmup_epochs = [2]
free_epochs = [1, 3.5]
"""


def spoilt(old: str, new: str) -> str:
    """Returns the valid text with the first `old` replaced; fails when there is none, as a test would test nothing."""
    if old not in VALID:
        raise LookupError(old)
    return VALID.replace(old, new, 1)
