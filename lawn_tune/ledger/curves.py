"""Curves as bytes: named series of equal length, packed without loss, and thinned for small pictures."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FORMAT = 1
THINNED = 20
"""Values of a curve that a small picture needs."""
LONGEST = 2**28
"""Bytes of an unpacked curve; 1000 epochs of a pack of 100 trials have some 30 million."""
_HEAD = struct.Struct("<BI")
_FLOAT = np.dtype("<f8")

Curve = dict[str, NDArray[np.float64]]
"""Series name → values [E], or [E, K] of a whole pack; NaN where not measured."""


def encode(series: Mapping[str, ArrayLike]) -> bytes:
    """Packs named series of one length E, bit for bit (NaN payloads included).

    Format: version byte, length of the head, head (JSON list of names), float64 values; all but the version byte
    and that length deflated. The bytes of all values are grouped by significance first, because adjacent values
    share their high bytes and values that were float32 once have empty low ones.

    Raises:
        ValueError: the series differ in length or are not one-dimensional.
    """
    columns = [np.asarray(values, dtype=_FLOAT) for values in series.values()]
    if len({column.shape for column in columns}) > 1 or any(column.ndim != 1 for column in columns):
        shapes = {name: column.shape for name, column in zip(series, columns, strict=True)}
        raise ValueError(f"series of a curve must be vectors of one length, got shapes {shapes}")
    head = json.dumps(list(series)).encode()
    values = np.concatenate(columns) if columns else np.empty(0, _FLOAT)
    planes = values.view(np.uint8).reshape(-1, 8).T.tobytes()
    return _HEAD.pack(FORMAT, len(head)) + zlib.compress(head + planes)


def decode(data: bytes) -> Curve:
    """The inverse of `encode`.

    Raises:
        ValueError: data was written by a newer version, or is damaged.
    """
    try:
        version, length = _HEAD.unpack_from(data)
        if version != FORMAT:
            raise ValueError(f"curve of format {version}; this version of lawn_tune reads format {FORMAT}")
        return _unpacked(_inflated(data[_HEAD.size :]), length)
    except (zlib.error, struct.error, TypeError) as error:
        raise ValueError(f"damaged curve: {error}") from None


def _inflated(data: bytes) -> bytes:
    """Returns what was deflated; a few bytes from elsewhere must not fill the memory."""
    inflater = zlib.decompressobj()
    body = inflater.decompress(data, LONGEST)
    if not inflater.eof:
        raise ValueError(f"damaged curve: it is cut, or longer than {LONGEST} bytes")
    return body


def _unpacked(body: bytes, length: int) -> Curve:
    names = json.loads(body[:length])
    planes = np.frombuffer(body, np.uint8, offset=length).reshape(8, -1)
    values = np.ascontiguousarray(planes.T).view(_FLOAT).astype(np.float64).reshape(len(names), -1 if names else 0)
    return dict(zip(names, values, strict=True))


def stack(records: Mapping[int, Mapping[str, Sequence[float | None]]], members: int) -> Curve:
    """Joins epochs into one array a series.

    Args:
        records: epoch (from 1) → series → values [K], None where not measured.
        members: K.

    Returns:
        Series → values [E, K], E the last epoch; NaN where an epoch or a series is missing.
    """
    stacked = {}
    for name in dict.fromkeys(name for record in records.values() for name in record):
        epochs = [epoch for epoch, record in records.items() if name in record]
        stacked[name] = np.full((max(records), members), np.nan)
        stacked[name][np.array(epochs) - 1] = np.array([records[epoch][name] for epoch in epochs], _FLOAT)
    return stacked


def join(parts: Sequence[tuple[int, Curve]], members: int) -> Curve:
    """Joins what was reported at different times; a part replaces its first epoch and all after it.

    Args:
        parts: first epoch (from 1) and series → values [n, K] from it on; by ascending first epochs.
        members: K.

    Returns:
        Series → values [E, K], E the end of the last part; NaN where an epoch or a series is missing.
    """
    ends = [first - 1 for first, _ in parts[1:]]
    ends += [first - 1 + max(map(len, part.values()), default=0) for first, part in parts[-1:]]
    names = dict.fromkeys(name for _, part in parts for name in part)
    joined = {name: np.full((ends[-1], members), np.nan) for name in names}
    for (first, part), end in zip(parts, ends, strict=True):
        for name, values in part.items():
            kept = values[: end - first + 1]
            joined[name][first - 1 : first - 1 + len(kept)] = kept
    return joined


def thinned(values: NDArray[np.float64], limit: int = THINNED) -> dict[int, float]:
    """Returns at most `limit` (>= 2) measured values by epoch (from 1), evenly spread, the first and last included."""
    measured = np.flatnonzero(~np.isnan(values))
    count = min(limit, len(measured))
    chosen = measured[np.linspace(0, len(measured) - 1, count).round().astype(int)] if count else measured
    return {int(i) + 1: float(values[i]) for i in chosen}
