"""The viewers' token: the login page with its cookie, and programs that send the token with each request."""

from __future__ import annotations

import hashlib
import hmac
import re
from html import escape
from urllib.parse import parse_qs, quote, urlencode
from wsgiref.types import WSGIEnvironment

from werkzeug import Request, Response

from dashboards.web.attempts import Attempts

COOKIE = "lawn_tune_session"
LOGIN = "/login"
NEXT = "next"
"""Parameter of the login page: the address to go to afterwards."""

INSIDE = re.compile(r"/(?![/\\])[!-~]{0,4000}")
"""An address of this server; "//name" and "/\\name" would lead to another one."""


class Login:
    """The check of the token.

    Args:
        token: the secret.
        base_path: what precedes every path in a browser.
        attempts: where wrong tokens are counted.
    """

    def __init__(self, token: str, base_path: str = "", attempts: Attempts | None = None) -> None:
        self._token, self._base, self._attempts = token, base_path, attempts or Attempts()

    def answer(self, environ: WSGIEnvironment) -> Response | None:
        """Answers the login page and those who have not logged in; returns None for those who have."""
        request = Request(environ)
        if request.path == LOGIN:
            return self._log_in(request) if request.method == "POST" else _page(200, "")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            known = _equal(request.cookies.get(COOKIE, ""), session(self._token))
            return None if known else self._challenge(request)
        if wait := self._attempts.wait(request.remote_addr):
            return refusal(429, too_many(wait), Retry_After=str(wait))
        return None if self._right(request, given) else self._challenge(request)

    def _log_in(self, request: Request) -> Response:
        if wait := self._attempts.wait(request.remote_addr):
            return _page(429, too_many(wait), Retry_After=str(wait))
        if not self._right(request, parse_qs(request.get_data(as_text=True)).get("token", [""])[0]):
            return _page(401, "Wrong token.")
        asked = request.args.get(NEXT, "")
        answer = Response(status=303, headers={"Location": self._base + (asked if INSIDE.fullmatch(asked) else "/")})
        # A proxy may end TLS without telling this server, but a browser sends the scheme that it used.
        secure = request.is_secure or request.headers.get("Origin", "").startswith("https://")
        path = self._base or "/"
        answer.set_cookie(COOKIE, session(self._token), path=path, secure=secure, httponly=True, samesite="Strict")
        return answer

    def _right(self, request: Request, given: str) -> bool:
        right = _equal(given.strip(), self._token)
        if not right:
            self._attempts.note(request.remote_addr)
        return right

    def _challenge(self, request: Request) -> Response:
        """Sends browsers to the login page, and answers programs with what is missing."""
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            asked = quote(request.path) + (f"?{query}" if (query := request.query_string.decode("latin-1")) else "")
            kept = f"?{urlencode({NEXT: asked})}" if asked != "/" and INSIDE.fullmatch(asked) else ""
            return Response(status=303, headers={"Location": self._base + LOGIN + (kept if len(kept) < 4_000 else "")})
        text = "This server requires a token: Authorization: Bearer TOKEN, or log in with a browser."
        return refusal(401, text, WWW_Authenticate='Bearer realm="lawn_tune"')


def session(token: str) -> str:
    """Returns the cookie's value: it proves the token without revealing it; a new token invalidates it."""
    return hmac.new(token.encode(), b"lawn_tune dashboard session", hashlib.sha256).hexdigest()


def too_many(wait: int) -> str:
    """Returns the message for a client that gave too many wrong tokens; `wait` is in seconds."""
    return f"Too many wrong tokens. Try again in {wait} s."


def refusal(status: int, text: str, **headers: str) -> Response:
    """Returns an answer in plain text; `Retry_After="3"` is the header Retry-After."""
    return Response(f"{text}\n", status=status, headers=_named(headers), mimetype="text/plain")


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _page(status: int, problem: str, **headers: str) -> Response:
    alert = f'<p id="problem" role="alert">{escape(problem)}</p>' if problem else ""
    described = ' aria-describedby="problem" aria-invalid="true"' if problem else ""
    body = PAGE.replace("PROBLEM", alert).replace("DESCRIBED", described)
    return Response(body, status=status, headers=_named(headers), mimetype="text/html")


PAGE = """<!DOCTYPE html>
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
<form method="post">
PROBLEM
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus DESCRIBED>
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""
