"""How long a launch may run and what it may spend; stops it cleanly, and begins nothing that would not fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from lawn_tune.planning.speed import Speeds


class Limits:
    """The limits of one launch, and what its jobs take of them. Without limits everything fits.

    A job's device time is its wall time times its share of a device. A job fits if its estimated end is before
    the deadline, and its device time and what the running jobs are estimated to need still are within the limit. It
    is begun as well if its time is unknown, or if it is longer than the limits as a whole: only its checkpoint, launch
    after launch, can finish it.

    Args:
        device_seconds: limit of the device time of all jobs together.
        deadline: limit of `clock`.
        share: devices a job holds: a fraction where jobs share a GPU; without GPUs, its CPU cores count as one.
        speeds: how fast cells train on these devices.
        clock: returns the time, s.
    """

    def __init__(
        self,
        *,
        device_seconds: float = inf,
        deadline: float = inf,
        share: float = 1.0,
        speeds: Speeds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.device_seconds, self.deadline = device_seconds, deadline
        self.share, self._clock = share, clock
        self._whole = min(device_seconds / share, deadline - clock())
        self._ended = 0.0
        self._running: dict[str, tuple[float, float]] = {}  # pack → when it began, and its estimated seconds
        self._began = 0.0  # sum over the running packs
        self.speeds = speeds or Speeds()

    @property
    def limited(self) -> bool:
        """True if there is any limit."""
        return self._whole < inf

    @property
    def spent(self) -> float:
        """Device seconds of the launch's jobs so far, whatever became of them."""
        return self._ended + self.share * (len(self._running) * self._clock() - self._began)

    @property
    def over(self) -> bool:
        """True once a limit is reached."""
        return self.limited and (self._clock() >= self.deadline or self.spent >= self.device_seconds)

    def fits(self, seconds: float | None) -> bool:
        """True if a job that takes the given seconds (None: unknown) may begin now."""
        if seconds is None or seconds > self._whole:
            return not self.over
        now = self._clock()
        promised = sum(max(began + needs - now, 0.0) for began, needs in self._running.values())
        return now + seconds <= self.deadline and (
            self.spent + self.share * (promised + seconds) <= self.device_seconds
        )

    def begin(self, pack: str, seconds: float | None) -> None:
        """Records that a pack begins, and its estimated seconds."""
        now = self._clock()
        self._running[pack] = (now, seconds or 0.0)
        self._began += now

    def end(self, pack: str) -> None:
        """Records that a pack ended, in whatever way."""
        began, _ = self._running.pop(pack)
        self._began = self._began - began if self._running else 0.0
        self._ended += self.share * (self._clock() - began)
