"""The options that tell the dashboard how browsers reach it: each is checked here, and refused with what is allowed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from dashboards.web.hosts import is_address, parse_name
from lawn_tune.errors import UsageError

SEGMENT = r"(?!\.\.?(/|$))[A-Za-z0-9._~-]+"


def allowed_hosts(names: Iterable[str], bound: str) -> frozenset[str]:
    """Returns the names of `--allow-host` as browsers send them, and that of `--host` if it is not an IP address.

    Raises:
        UsageError: one is not a name alone.
    """
    parsed = {text: parse_name(text) for text in names}
    for text, name in parsed.items():
        if name is None:
            raise UsageError(
                f"--allow-host '{text}': not a host name",
                "Give a name alone, such as lawn.example.org, without scheme, port or path.",
            )
    own = parse_name(bound)
    return frozenset(name for name in (*parsed.values(), None if is_address(own or "") else own) if name)


def base_path(text: str) -> str:
    """Returns the value of `--base-path` without the slash at its end; "" for "/".

    Raises:
        UsageError: it is not a path.
    """
    path = text.removesuffix("/")
    if path and not re.fullmatch(rf"(/{SEGMENT})+", path):
        raise UsageError(
            f"--base-path '{text}': not a path",
            "Give a path such as /lawn or /team/lawn: it begins with /, and has letters, digits and . _ ~ - only.",
        )
    return path


def trusted_proxy(text: str | None) -> str | None:
    """Returns the address of `--trusted-proxy` as the server sees it.

    Raises:
        UsageError: it is neither an IP address nor *.
    """
    if text is None or text == "*":
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UsageError(
            f"--trusted-proxy '{text}': not an IP address",
            "Give the address from which the proxy connects, such as 127.0.0.1; or * if only the proxy can connect.",
        ) from None
