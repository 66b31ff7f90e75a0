"""Pickles of plain values and byte arrays, read without importing or calling anything that they name."""

from __future__ import annotations

import io
import pickle
import pickletools
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARRAY_NAMES = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
"""What a pickled array names: its constructor, its class, and the class of its type."""

BYTES = ("u1", b"u1")
"""Type of the only arrays that are read, as Python 3 and 2 write it."""


class PickleError(ValueError):
    """A file that is no pickle, or one that holds more than plain values and arrays of bytes."""


def load_plain(content: bytes) -> Any:
    """Returns a pickled dictionary, list, text, number or array of bytes; strings of Python 2 become bytes.

    An array is in a dictionary or is the value itself. Nothing of numpy sees what the file holds before
    its type, its shape and its length have been checked.

    Raises:
        PickleError: it is no pickle, is cut off, names anything but an array, or holds an array of other numbers.
    """
    try:
        _check_places(content)
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except PickleError:
        raise
    except Exception as error:  # a damaged pickle may fail in any operation
        raise PickleError(f"it is no pickle that can be read: {type(error).__name__} {error}".strip()) from error
    if isinstance(found, dict):
        return {key: _array(value) for key, value in found.items()}
    return _array(found)


def _check_places(content: bytes) -> None:
    """Refuses numbers of remembered values that no writer gives: the unpickler makes room for all smaller ones."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > count:
            raise PickleError(f"it remembers value {argument:,} after {count:,} operations")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ARRAY_NAMES:
            raise PickleError(f"it names {module}.{name}; only plain values and arrays of bytes are read")
        return _Part

    def persistent_load(self, pid: Any) -> Any:
        raise PickleError("it refers to a value outside the file; only plain values and arrays of bytes are read")


class _Part:
    """Stands for whatever part of a pickled array: keeps what it is made from."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _array(value: Any) -> Any:
    return _bytes(value) if isinstance(value, _Part) else value


def _bytes(part: _Part) -> NDArray[np.uint8]:
    """Returns the array of a part whose state is (version, shape, type, order of Fortran, content)."""
    match part.state:
        case (_, tuple(shape), _Part(arguments=(kind, *_)), int(fortran), bytes(content)) if kind in BYTES:
            if not all(type(side) is int and side >= 0 for side in shape) or prod(shape) != len(content):
                raise PickleError(f"an array of shape {list(shape)} has {len(content):,} bytes")
            flat = np.frombuffer(content, np.uint8)
            return flat.reshape(shape, order="F" if fortran else "C")
    raise PickleError("it holds an array of something else than bytes")
