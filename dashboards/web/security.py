"""The checks of every request (method, size, host, token) and the headers of every response, for all routes.

A WSGI wrapper: Flask's hooks would run behind Dash's own, and flask-talisman knows headers only, no host list or token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qs, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug import Request, Response

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_BODY, MAX_TOKEN, MAX_URL = 1_000_000, 4_000, 8_000
"""Bytes of a request's body, of a login form, and of an address."""

COOKIE = "lawn_tune_session"
LOGIN = "/login"
POSTED = frozenset({"/_dash-update-component"})
"""Where a body may be sent to; callbacks of the application, which read."""

DOORS = ("/_dash-layout", "/_dash-dependencies", "/_dash-update-component", "/_dash-component-suites/", "/_version")
"""What is answered of all that begins with "/_"; the library has more, for developers."""

FINGERPRINTED = "/_dash-component-suites/"

Headers = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may look.

    Args:
        hosts: names, in addition to loopback ones and IP addresses, by which a browser may address the server. A page
            elsewhere can point its own name at this machine (DNS rebinding), but its requests still carry that name.
        token: secret that a viewer gives once; None where everyone on this machine may look.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = None


def is_loopback(host: str) -> bool:
    """True if a server bound to `host` is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    """

    def __init__(self, app: WSGIApplication, access: Access, policy: str) -> None:
        self._app, self._access, self._policy = app, access, policy

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        path = str(environ.get("PATH_INFO", ""))

        def start(status: str, headers: Headers, exc_info: object = None) -> Callable[[bytes], object]:
            return start_response(status, self._headers(path, headers))

        refused = self._wrong_request(environ, path) or self._wrong_origin(environ)
        if refused is not None:
            return refused(environ, start)
        if self._access.token is not None:
            if path == LOGIN:
                return _login(environ, self._access.token)(environ, start)
            if not _known(environ, self._access.token):
                return _challenge(environ)(environ, start)
        return self._app(environ, start)

    def _headers(self, path: str, headers: Headers) -> Headers:
        ours = {
            "Content-Security-Policy": self._policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            # A form sends its origin only with a referrer, and the login checks that the form was ours.
            "Referrer-Policy": "same-origin" if path == LOGIN else "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "private, max-age=31536000" if path.startswith(FINGERPRINTED) else "no-store",
        }
        lower = {name.lower() for name in ours}
        return [(name, value) for name, value in headers if name.lower() not in lower] + list(ours.items())

    def _wrong_request(self, environ: WSGIEnvironment, path: str) -> Response | None:
        method = environ["REQUEST_METHOD"]
        posted = path in POSTED or (path == LOGIN and self._access.token is not None)
        if method not in ("GET", "HEAD") and not (method == "POST" and posted):
            return _refusal(405, "This server is read-only; it accepts GET.", Allow="GET, HEAD")
        if path.startswith("/_") and not path.startswith(DOORS):
            return _refusal(404, "There is nothing at this address.")
        if len(path) + len(environ.get("QUERY_STRING", "")) > MAX_URL:
            return _refusal(414, f"The address is longer than {MAX_URL} characters.")
        size = environ.get("CONTENT_LENGTH") or "0"
        if not size.isdecimal():
            return _refusal(400, "Content-Length must be a number.")
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() and "CONTENT_LENGTH" not in environ:
            return _refusal(411, "A request body requires a Content-Length.")
        if int(size) > (MAX_TOKEN if path == LOGIN else MAX_BODY):
            return _refusal(413, f"The request is larger than {MAX_BODY} bytes.")
        return None

    def _wrong_origin(self, environ: WSGIEnvironment) -> Response | None:
        host = environ.get("HTTP_HOST", "")
        name = _name(host)
        if not self._allowed(name):
            return _refusal(
                421,
                f"This server does not answer to the name '{name[:100]}'. To allow it, start it with "
                "lawn-tune dashboard --allow-host NAME.",
            )
        origin = environ.get("HTTP_ORIGIN")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if environ["REQUEST_METHOD"] == "POST" and (foreign or environ.get("HTTP_SEC_FETCH_SITE") == "cross-site"):
            return _refusal(403, "This request comes from another site.")
        return None

    def _allowed(self, name: str) -> bool:
        if name in LOOPBACK_NAMES or name in self._access.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an IP address cannot be rebound


def _known(environ: WSGIEnvironment, token: str) -> bool:
    request = Request(environ)
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _equal(given.strip(), token)
    return _equal(request.cookies.get(COOKIE, ""), session(token))


def _login(environ: WSGIEnvironment, token: str) -> Response:
    request = Request(environ)
    if request.method != "POST":
        return _page(200, "")
    given = parse_qs(request.get_data(as_text=True)).get("token", [""])[0]
    if not _equal(given.strip(), token):
        return _page(401, "Wrong token.")
    answer = Response(status=303, headers={"Location": "/"})
    answer.set_cookie(COOKIE, session(token), httponly=True, samesite="Strict", secure=request.is_secure)
    return answer


def session(token: str) -> str:
    """Returns the cookie's value: it proves the token without revealing it; a new token invalidates it."""
    return hmac.new(token.encode(), b"lawn_tune dashboard session", hashlib.sha256).hexdigest()


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _name(host: str) -> str:
    """Returns a Host header's name without its port, in small letters; "[::1]:80" is ::1."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _refusal(status: int, text: str, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(f"{text}\n", status=status, headers=named, mimetype="text/plain")


def _challenge(environ: WSGIEnvironment) -> Response:
    """Sends browsers to the login page, and answers programs with what is missing."""
    if environ["REQUEST_METHOD"] == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
        return Response(status=303, headers={"Location": LOGIN})
    text = "This server requires a token: Authorization: Bearer TOKEN, or log in with a browser."
    return _refusal(401, text, WWW_Authenticate='Bearer realm="lawn_tune"')


def _page(status: int, problem: str) -> Response:
    alert = f'<p id="problem" role="alert">{escape(problem)}</p>' if problem else ""
    described = ' aria-describedby="problem" aria-invalid="true"' if problem else ""
    body = _LOGIN_PAGE.replace("PROBLEM", alert).replace("DESCRIBED", described)
    return Response(body, status=status, mimetype="text/html")


_LOGIN_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · lawn_tune</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; display: grid; place-items: center; min-height: 100vh;
       background: light-dark(#f6f7f8, #101317); color: light-dark(#1f2328, #e6e8eb); }
main { width: min(22rem, calc(100vw - 2rem)); padding: 1.5rem; border-radius: 10px; box-sizing: border-box;
       background: light-dark(#fff, #171b21); border: 1px solid light-dark(#e3e6ea, #2b313a); }
h1 { font-size: 1.15rem; margin: 0 0 .25rem; }
p { margin: 0 0 1rem; color: light-dark(#59626d, #9aa4b0); }
#problem { color: light-dark(#b42318, #ff9b8f); }
label { display: block; font-weight: 600; margin-bottom: .25rem; }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem .65rem; border-radius: 6px; }
input { border: 1px solid light-dark(#8b939d, #79828e); background: transparent; color: inherit; }
button { margin-top: .75rem; border: 0; background: light-dark(#24563b, #8fc3a3); color: light-dark(#fff, #0d1f15);
         font-weight: 600; cursor: pointer; }
:focus-visible { outline: 2px solid light-dark(#0b62c4, #7db7ff); outline-offset: 2px; }
</style>
</head>
<body>
<main>
<h1>lawn_tune</h1>
<p>This dashboard requires a token.</p>
<form method="post" action="/login">
PROBLEM
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus DESCRIBED>
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""
