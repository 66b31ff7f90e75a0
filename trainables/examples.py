"""Outcomes on single test examples, as values and as the bytes that a ledger keeps. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLACES = 10
"""Places of a ranking that are told apart: those that HR@10 and NDCG@10 count."""

Outcomes = NDArray[np.bool_] | NDArray[np.uint8]
"""On each test example [E]: whether the model is right; of rankings the place of the right item, from 0 to `PLACES` for
all places from there on."""


def encode(outcomes: Outcomes) -> bytes:
    """Returns outcomes as bytes: one bit for each example, whether it is right (`numpy.packbits`), then for places half
    a byte for each, the first one in the high half.
    """
    bits = np.packbits(hits(outcomes)).tobytes()
    if outcomes.dtype == np.bool_:
        return bits
    halves = np.append(outcomes, np.zeros(len(outcomes) % 2, np.uint8)).astype(np.uint8)
    return bits + (halves[::2] << 4 | halves[1::2]).tobytes()


def decode(count: int, data: bytes) -> Outcomes:
    """Returns the outcomes [count] that `encode` made bytes of.

    Raises:
        ValueError: the bytes are not those of as many outcomes.
    """
    length = (count + 7) // 8
    if count < 0 or len(data) not in (length, length + (count + 1) // 2):
        raise ValueError("its bytes do not hold as many outcomes as they should")
    right = np.unpackbits(np.frombuffer(data[:length], np.uint8), count=count).astype(np.bool_)
    if len(data) == length:
        return right
    halves = np.frombuffer(data[length:], np.uint8)
    places = np.stack([halves >> 4, halves & 15], axis=1).ravel()[:count]
    if places.max(initial=0) > PLACES or not np.array_equal(hits(places), right):
        raise ValueError("its places in rankings are not those of its hits")
    return places


def hits(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Returns whether the model is right on each example [E], in rankings in the first `PLACES`."""
    return np.asarray(outcomes if outcomes.dtype == np.bool_ else outcomes < PLACES, np.bool_)


def gains(outcomes: Outcomes) -> NDArray[np.float64]:
    """Returns 1 / log2(place + 2) of the right item [E], 0 beyond `PLACES`; NDCG@10 is 100 times their mean.

    Outcomes without places are those of the first place, or of none.
    """
    places = np.where(outcomes, 0, PLACES) if outcomes.dtype == np.bool_ else outcomes
    found: NDArray[np.float64] = np.where(places < PLACES, 1 / np.log2(places + 2.0), 0.0)
    return found
