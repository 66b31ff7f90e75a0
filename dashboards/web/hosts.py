"""Names of hosts in requests: which of them are this server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """True if a server bound to `host` is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_address(name: str) -> bool:
    """True for an IP address, which no other site can point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def parse_name(text: str) -> str | None:
    """Returns a name or an IP address as browsers send it, "GPU.lan." as "gpu.lan"; None if it is anything else."""
    try:
        name = (text if text.isascii() else text.encode("idna").decode()).lower().rstrip(".")
        known = re.fullmatch(rf"{LABEL}(\.{LABEL})*", name)
        return name if known else str(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def name_of(host: str) -> str:
    """Returns a Host header's name without its port, in small letters; "[::1]:80" is ::1."""
    return _name_and_port(f"//{host}")[0]


def answered(host: str, allowed: Container[str]) -> bool:
    """True if a Host header names this server: by a loopback name, an allowed name or any IP address."""
    name = name_of(host)
    return name in LOOPBACK_NAMES or name in allowed or is_address(name)


def own_page(origin: str, host: str, allowed: Container[str]) -> bool:
    """True if a page of this server sent a request.

    Its origin has the name and port of the Host header; or an allowed name, because a proxy may have replaced the name
    in Host by this server's address, or removed the port.
    """
    sent = _name_and_port(origin)
    return bool(sent[0]) and (sent[0] in allowed or sent == _name_and_port(f"{urlsplit(origin).scheme}://{host}"))


def _name_and_port(url: str) -> tuple[str, int | None]:
    """Returns the name and the port of an address; without a port, that of the scheme, as browsers leave it out."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").rstrip("."), parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return "", None
