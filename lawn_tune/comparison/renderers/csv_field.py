"""One field of a CSV file, safe to open in a spreadsheet."""

from __future__ import annotations

import json
import re
from typing import Any

FORMULA = r"\s*[=+\-@|%\t\n]"
"""The start of a text that a spreadsheet would compute; also a pattern of JavaScript, for tables saved in a browser."""


def csv_field(value: Any) -> Any:
    """Returns a value as one field: numbers and None unchanged, other values as text that is never a formula.

    Line ends become a line feed, since not every writer quotes a lone carriage return.
    """
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if re.match(FORMULA, text) else text
