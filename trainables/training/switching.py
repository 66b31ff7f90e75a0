"""When a trial's control begins: after its free epochs, or by itself, once training has made the margins large.

A switch below 0 is a rule: −m switches when the running median margin exceeds m, `INFLECTION` when its growth bends.
The running median is the mean of the minibatches' median margins over a part of an epoch, so the device is asked once
a part and never in a step. Source: the paper leaves it to future work ("when the median logit on minibatches gets
high", §3); the bend is CPR's rule (Franke et al., NeurIPS 2024), for CPR itself that of the size of its weights, all
tensors together; window, spans and default margin are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

INFLECTION = -1e9
"""The switch of a trial whose control begins where the growth over an epoch is below that of the one before."""

WINDOWS = 10
"""Parts of an epoch that the margin is averaged over, each of whole steps."""


def automatic(switch: float | None) -> bool:
    """Whether a switch is a rule and no number of epochs."""
    return switch is not None and switch < 0


class MarginWatch:
    """The running median margins of the trials that switch by themselves, in the host's memory.

    Args:
        switches: each trial's switch; None for a trial that has none.
        steps_per_epoch: steps an epoch.

    `rules` holds the switch of each such trial, `history` what was measured last of those that have not switched.
    """

    def __init__(self, switches: Sequence[float | None], steps_per_epoch: int) -> None:
        self.rules = {i: switch for i, switch in enumerate(switches) if switch is not None and automatic(switch)}
        self.history: dict[int, list[float]] = {member: [] for member in self.rules}
        self._steps_per_epoch = steps_per_epoch
        self._steps = math.ceil(steps_per_epoch / WINDOWS)
        self.windows = math.ceil(steps_per_epoch / self._steps)

    @property
    def longest(self) -> int:
        """Number of margins that a rule looks back on."""
        return 2 * self.windows + 1

    @property
    def waiting(self) -> bool:
        """Whether any trial is still to switch."""
        return bool(self.history)

    def window(self, done: int) -> int:
        """Returns the steps of the window that ends after `done` steps of training, 0 where none ends."""
        inside = (done - 1) % self._steps_per_epoch + 1
        if inside % self._steps and inside < self._steps_per_epoch:
            return 0
        return inside % self._steps or self._steps

    def due(self, measured: Mapping[int, Sequence[float]]) -> list[int]:
        """Returns the trials that switch now.

        Args:
            measured: of each trial that trains, at a window's end, its running median margin, and what is to bend. One
                that is not finite is left out: the trial has diverged, which the end of the epoch finds.
        """
        for member in [waiting for waiting in self.history if waiting not in measured]:
            del self.history[member]
        for member, history in self.history.items():
            value = measured[member][self.rules[member] == INFLECTION]
            self.history[member] = [*history, *filter(math.isfinite, [value])][-self.longest :]
        due = [member for member, history in self.history.items() if self._fires(self.rules[member], history)]
        for member in due:
            del self.history[member]
        return due

    def _fires(self, rule: float, history: Sequence[float]) -> bool:
        if rule != INFLECTION:
            return bool(history) and history[-1] > -rule
        before = len(history) - 1 - self.windows
        return before >= self.windows and history[-1] - history[before] < history[before] - history[0]
