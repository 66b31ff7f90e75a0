"""Answers in gzip, which browsers unpack: the drawing and table libraries are megabytes of text."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug import Response
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

SMALLEST = 1_000
"""Bytes below which an answer is sent as it is; it would still take one packet."""

LEVEL, KEPT_LEVEL = 5, 9
"""Of gzip: for answers made anew, and for files, whose packed form is kept."""

MAX_KEPT = 64
"""Packed files kept; a browser asks for about forty."""

TEXTS = ("text/", "application/json", "application/javascript", "image/svg+xml")


class Compressed:
    """WSGI middleware that packs the texts of an application where the browser accepts it.

    Args:
        app: what answers.
        kept: what the paths of files begin with that never change under their name; they are packed once.
    """

    def __init__(self, app: WSGIApplication, kept: tuple[str, ...]) -> None:
        self._app, self._prefix = app, kept
        self._kept: dict[str, bytes] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        accepted = parse_accept_header(environ.get("HTTP_ACCEPT_ENCODING"), Accept)
        if environ["REQUEST_METHOD"] not in ("GET", "POST") or not accepted.quality("gzip"):
            return self._app(environ, start_response)
        answer = Response.from_app(self._app, environ, buffered=True)
        if (
            answer.status_code == 200
            and str(answer.mimetype).startswith(TEXTS)
            and "Content-Encoding" not in answer.headers
        ):
            self._pack(answer, str(environ.get("PATH_INFO", "")))
        return answer(environ, start_response)

    def _pack(self, answer: Response, path: str) -> None:
        answer.vary.add("Accept-Encoding")
        body = answer.get_data()
        if len(body) < SMALLEST:
            return
        answer.set_data(self._packed(path, body))  # with its length
        answer.headers["Content-Encoding"] = "gzip"
        etag, _ = answer.get_etag()
        if etag is not None:
            answer.set_etag(etag, weak=True)

    def _packed(self, path: str, body: bytes) -> bytes:
        if not path.startswith(self._prefix):
            return gzip.compress(body, LEVEL, mtime=0)
        found = self._kept.get(path)
        if found is None:
            found = gzip.compress(body, KEPT_LEVEL, mtime=0)
            if len(self._kept) < MAX_KEPT:
                self._kept[path] = found
        return found
