"""Curves as bytes: named series of equal length, packed without loss, and thinned for small pictures."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

FORMAT = 1
THINNED = 20
"""Values of a curve that a small picture needs."""
_HEAD = struct.Struct("<BI")
_FLOAT = np.dtype("<f8")

Curve = dict[str, NDArray[np.float64]]
"""Series name → values [E]; NaN where not measured."""


def encode(series: Mapping[str, ArrayLike]) -> bytes:
    """Packs named series of one length E, bit for bit (NaN payloads included).

    Format: version byte, length of the head, head (JSON list of names), float64 values; all but the version byte
    and that length deflated. The bytes of all values are grouped by significance first, because neighbouring values
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
        return _unpacked(zlib.decompress(data[_HEAD.size :]), length)
    except (zlib.error, struct.error, TypeError) as error:
        raise ValueError(f"damaged curve: {error}") from None


def _unpacked(body: bytes, length: int) -> Curve:
    names = json.loads(body[:length])
    planes = np.frombuffer(body, np.uint8, offset=length).reshape(8, -1)
    values = np.ascontiguousarray(planes.T).view(_FLOAT).astype(np.float64).reshape(len(names), -1 if names else 0)
    return dict(zip(names, values, strict=True))


def stack(records: Mapping[int, Curve], members: int) -> dict[str, NDArray[np.float64]]:
    """Joins epochs into one array a series.

    Args:
        records: epoch (from 1) → series → values [K].
        members: K.

    Returns:
        Series → values [E, K], E the last epoch; NaN where an epoch or a series is missing.
    """
    last = max(records, default=0)
    names = dict.fromkeys(name for record in records.values() for name in record)
    stacked = {name: np.full((last, members), np.nan) for name in names}
    for epoch, record in records.items():
        for name, values in record.items():
            stacked[name][epoch - 1] = values
    return stacked


def thinned(values: NDArray[np.float64], limit: int = THINNED) -> dict[int, float]:
    """Returns at most `limit` (>= 2) measured values by epoch (from 1), evenly spread, the first and last included."""
    measured = np.flatnonzero(~np.isnan(values))
    count = min(limit, len(measured))
    chosen = measured[np.linspace(0, len(measured) - 1, count).round().astype(int)] if count else measured
    return {int(i) + 1: float(values[i]) for i in chosen}
