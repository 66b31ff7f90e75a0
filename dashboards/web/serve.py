"""Serves the application until it is stopped."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any

from dash import Dash
from waitress.server import create_server

from dashboards.web.compression import Compressed
from dashboards.web.security import FINGERPRINTED, MAX_BODY, Access, Guard, policy
from lawn_tune.errors import UsageError

TRUSTED = "x-forwarded-for x-forwarded-proto"
"""Headers of a trusted proxy: the client's address, and the scheme that a browser used."""

THREADS = 8
"""Requests answered at once; a page asks for its cards in parallel."""


def guarded(app: Dash, access: Access) -> Guard:
    """Returns the application as it may be served."""
    base_path = str(app.config.requests_pathname_prefix).rstrip("/")
    return Guard(Compressed(app.server.wsgi_app, FINGERPRINTED), access, policy(app.csp_hashes()), base_path)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; port 0 takes a free one.

    Raises:
        UsageError: the port is taken, or the host is not an address of this machine.
    """
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as unless_bound:
            found = unless_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
            found.listen(socket.SOMAXCONN)
            unless_bound.pop_all()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {host}, port {port}: {reason}",
            "Give another port with --port, or 0 for a free one; --host must be an address of this machine.",
        ) from None
    return found


def address(listening: socket.socket) -> str:
    """Returns the URL of a listening socket; of one on all addresses, that of this machine."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"


def server(guard: Guard, listening: socket.socket, trusted_proxy: str | None = None) -> Any:
    """Returns the HTTP server, not yet running.

    Args:
        trusted_proxy: address of the proxy whose X-Forwarded-For and X-Forwarded-Proto are believed, or "*"; those of
            any other client are dropped.
    """
    return create_server(
        guard,
        sockets=[listening],
        threads=THREADS,
        ident=None,
        max_request_body_size=MAX_BODY,
        max_request_header_size=32_768,
        connection_limit=200,
        channel_timeout=60,
        trusted_proxy=trusted_proxy,
        trusted_proxy_headers=TRUSTED if trusted_proxy else "",
        clear_untrusted_proxy_headers=True,
    )


def serve(server: Any, started: Callable[[], None] = lambda: None) -> None:
    """Answers requests until Ctrl-C or SIGTERM, and then returns.

    Args:
        server: what `server` returned.
        started: called when requests are answered.
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a page asks for more cards than there are threads
    signal.signal(signal.SIGTERM, _stop)
    started()
    try:
        server.run()
    finally:
        server.close()


def _stop(_: int, __: FrameType | None) -> None:
    sys.exit(0)
