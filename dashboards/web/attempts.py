"""How often wrong tokens were given, so that nobody can try them all."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST, SECONDS = 10, 60
"""Wrong tokens from one address in this time; then no token from there is looked at, while sessions go on."""

MAX_ADDRESSES = 10_000
"""Addresses kept; the ones longest without a wrong token are dropped first."""


class Attempts:
    """The last wrong tokens of every address; safe to use from many threads.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str | None) -> None:
        """Counts a wrong token."""
        key = _network(address)
        with self._lock:
            self._times.setdefault(key, deque(maxlen=MOST)).append(self._clock())
            self._times.move_to_end(key)
            while len(self._times) > MAX_ADDRESSES:
                self._times.popitem(last=False)

    def wait(self, address: str | None) -> int:
        """Returns for how many more seconds no token from an address is looked at; 0 where one is."""
        with self._lock:
            times = self._times.get(_network(address), deque[float]())
            left = times[0] + SECONDS - self._clock() if len(times) == MOST else 0
        return max(0, math.ceil(left))


def _network(address: str | None) -> str:
    """Returns what one client has: an IPv4 address, or the first 64 bits of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))
