"""Requests to the dashboard without a port: through the middleware, as a server would call it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

from dashboards.web.security import Guard

TOKEN = "correct-horse-battery-staple"


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1, f"{name} is sent {len(found)} times"
        return found[0] if found else ""

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(guard: Guard, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str | None) -> Answer:
    """Sends a request through the middleware; `host="x"` is the header Host, None leaves it out.

    `content_…` and `remote_…` are those of the server's environment."""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    environ |= {"HTTP_HOST": "127.0.0.1:8050", "wsgi.input": io.BytesIO(body)}
    if body:
        environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
    for name, value in headers.items():
        key = name.upper() if name.startswith(("content", "remote")) else f"HTTP_{name.upper()}"
        environ.pop(key, None) if value is None else environ.update({key: value})
    began: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, found: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        began.append((status, found))
        return lambda _: None

    sent = guard(environ, start)
    content = b"".join(sent)
    getattr(sent, "close", lambda: None)()
    [(status, found)] = began
    return Answer(int(status.split()[0]), found, content)


def log_in(guard: Guard, token: str, path: str = "/login", **headers: str) -> Answer:
    """Sends the form of the login page."""
    form = "application/x-www-form-urlencoded"
    body = urlencode({"token": token}).encode()
    return ask(guard, path, method="POST", body=body, content_type=form, **headers)
