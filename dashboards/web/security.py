"""The checks of every request (method, size, host, token) and the headers of every response, for all routes.

A WSGI wrapper: Flask's hooks would run behind Dash's own, and flask-talisman knows headers only, no host list or token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug import Response

from dashboards.web import hosts
from dashboards.web.login import LOGIN, Login, refusal

MAX_BODY, MAX_TOKEN, MAX_URL = 1_000_000, 4_000, 8_000
"""Bytes of a request's body, of a login form, and of an address."""

POSTED = frozenset({"/_dash-update-component"})
"""Where a body may be sent to; callbacks of the application, which read."""

DOORS = ("/_dash-layout", "/_dash-dependencies", "/_dash-update-component", "/_dash-component-suites/", "/_version")
"""What is answered of all that begins with "/_"; the library has more, for developers."""

FINGERPRINTED = ("/_dash-component-suites/", "/assets/plotly-")
"""What the paths of files begin with that carry their version."""

Headers = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may look.

    Args:
        hosts: names without ports, in addition to loopback ones and IP addresses, by which a browser may address the
            server. A page elsewhere can point its own name at this machine (DNS rebinding), but its requests still
            carry that name. A proxy may replace the name in Host, but not the one in Origin.
        token: secret that a viewer gives once; None where everyone on this machine may look.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = None


def policy(script_hashes: Iterable[str]) -> str:
    """Returns the content security policy: nothing is loaded from elsewhere, and no script is made of text."""
    scripts = " ".join(script_hashes)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {scripts}".strip(),
            "style-src 'self' 'unsafe-inline'",  # Plotly, AG Grid and Mantine write style elements
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class Guard:
    """WSGI middleware around the application; its checks run in the order of this file.

    Args:
        app: what answers.
        access: who may look.
        policy: the content security policy of every answer.
        base_path: what precedes every path, "/lawn"; a proxy may pass it on or take it away.
    """

    def __init__(self, app: WSGIApplication, access: Access, policy: str, base_path: str = "") -> None:
        self._app, self._access, self._policy, self._base = app, access, policy, base_path
        self._login = None if access.token is None else Login(access.token, base_path)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        path = self._below_base(str(environ.get("PATH_INFO", "")))
        environ = {**environ, "SCRIPT_NAME": self._base, "PATH_INFO": path}

        def start(status: str, headers: Headers, exc_info: object = None) -> Callable[[bytes], object]:
            return start_response(status, self._headers(path, status, headers))

        refused = self._wrong_request(environ, path) or self._wrong_origin(environ)
        if refused is not None:
            return refused(environ, start)
        closed = self._login.answer(environ) if self._login else None
        return (closed or self._app)(environ, start)

    def _below_base(self, path: str) -> str:
        inside = path == self._base or path.startswith(f"{self._base}/")
        return path[len(self._base) :] or "/" if inside else path

    def _headers(self, path: str, status: str, headers: Headers) -> Headers:
        lasting = path.startswith(FINGERPRINTED) and status.startswith("200")
        ours = {
            "Content-Security-Policy": self._policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            # A form sends its origin only with a referrer, and the login checks that the form was ours.
            "Referrer-Policy": "same-origin" if path == LOGIN else "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "private, max-age=31536000" if lasting else "no-store",
        }
        lower = {name.lower() for name in ours}
        return [(name, value) for name, value in headers if name.lower() not in lower] + list(ours.items())

    def _wrong_request(self, environ: WSGIEnvironment, path: str) -> Response | None:
        method = environ["REQUEST_METHOD"]
        posted = path in POSTED or (path == LOGIN and self._access.token is not None)
        if method not in ("GET", "HEAD") and not (method == "POST" and posted):
            return refusal(405, "This server is read-only; it accepts GET.", Allow="GET, HEAD")
        if path.startswith("/_") and not path.startswith(DOORS):
            return refusal(404, "There is nothing at this address.")
        if len(path) + len(environ.get("QUERY_STRING", "")) > MAX_URL:
            return refusal(414, f"The address is longer than {MAX_URL} characters.")
        size = environ.get("CONTENT_LENGTH") or "0"
        if not size.isdecimal():
            return refusal(400, "Content-Length must be a number.")
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() and "CONTENT_LENGTH" not in environ:
            return refusal(411, "A request body requires a Content-Length.")
        if int(size) > (MAX_TOKEN if path == LOGIN else MAX_BODY):
            return refusal(413, f"The request is larger than {MAX_BODY} bytes.")
        return None

    def _wrong_origin(self, environ: WSGIEnvironment) -> Response | None:
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if not hosts.answered(host, self._access.hosts):
            return refusal(
                421,
                f"This server does not answer to the name '{hosts.name_of(host)[:100]}'. To allow it, start it with "
                "lawn-tune dashboard --allow-host NAME.",
            )
        if environ["REQUEST_METHOD"] != "POST":
            return None
        foreign = origin is not None and not hosts.own_page(origin, host, self._access.hosts)
        if foreign or environ.get("HTTP_SEC_FETCH_SITE") == "cross-site":
            return refusal(
                403,
                f"This request comes from another site, '{(origin or '')[:100]}'. If that is this dashboard behind a "
                "proxy, start it with lawn-tune dashboard --allow-host NAME.",
            )
        return None
