"""Which texts can be the path of a file at all; asking the system for others raises."""

from __future__ import annotations

import os

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes, on every file system that Linux and macOS use."""


def is_path(text: str) -> bool:
    """Tells whether a file could have this path: not empty, without NUL, writable as bytes, not too long."""
    if not text or "\0" in text:
        return False
    try:
        path = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return len(path) <= LONGEST_PATH and all(len(name) <= LONGEST_NAME for name in path.split(b"/"))
