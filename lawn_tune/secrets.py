"""Speaks of database URLs without their passwords."""

from __future__ import annotations

import re

SECRET_OPTION = re.compile(r"password|passwd|pwd|secret|token|key", re.IGNORECASE)
"""Names of URL options whose values are nobody's business."""


def masked(url: str) -> str:
    """Returns the text of one URL, well formed or not, with `***` in place of every password."""
    scheme = r"[\w+.-]*://" if "://" in url else ""
    url = re.sub(rf"^({scheme}[^:/@]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*(?:" + SECRET_OPTION.pattern + r")[^=&]*=)[^&]*", r"\1***", url, flags=re.I | re.S)
