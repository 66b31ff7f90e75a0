"""A small study for clusters, and the command that launches it."""

from __future__ import annotations

from tests.helpers.tiny import tiny_space

SPACE = tiny_space(
    "Seconds a trial",
    width=4,
    confirm=[11],
    batch_size=32,
    epochs=80,
    peak_lr=[0.003, 0.01],
    weight_decay=[0.1],
    free_epochs=[3],
)
TRIALS = 2 * (2 + 1)
LAUNCH = ("launch", "tiny.toml", "--pack-size", "1")
