"""Serves the review page on this machine only, and stores each verdict as it is given.

Only requests that carry the page's random token and name this host are answered: no other page or user can store a verdict.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import Callable, Collection
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vseam_core.errors import VseamError
from vseam_core.files import parse_json

HOST = "127.0.0.1"
_MOST_BYTES = 20_000
_LENGTH = re.compile("[0-9]{1,9}")
_log = logging.getLogger(__name__)
Decide = Callable[[str, str, str], None]


class ReviewServer:
    """A server that is ready to run: `address` is where a browser finds it. A context manager that closes its socket.

    `page` makes the HTML from the token; `decide(identifier, verdict, comment)` stores a verdict and raises `VseamError`.
    `identifiers` are the edits that may be decided.
    """

    def __init__(self, page: Callable[[str], str], identifiers: Collection[str], decide: Decide, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        self.decided = 0
        self._page, self._identifiers, self._decide = page(self.token), frozenset(identifiers), decide
        self._lock = threading.Lock()
        server = self

        class Handler(_Handler):
            review = server

        try:
            self._server = _Server((HOST, port), Handler)
        except OSError as error:
            raise VseamError(f"cannot serve on {HOST}:{port}: {error.strerror or error}") from None
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.address = f"http://{HOST}:{self.port}/?token={self.token}"

    def __enter__(self) -> ReviewServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.server_close()

    def run(self) -> None:
        """Answer requests until Ctrl-C or `stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.shutdown()

    def knows(self, host: str | None, token: str | None) -> bool:
        """Whether a request names this host and carries the token."""
        hosts = (f"{HOST}:{self.port}", f"localhost:{self.port}")
        return host in hosts and token is not None and secrets.compare_digest(token.encode(), self.token.encode())

    def page(self) -> bytes:
        """The page as bytes."""
        return self._page.encode("utf-8")

    def store(self, body: bytes) -> None:
        """Store the verdict of a request. Raises `VseamError` with what is wrong."""
        try:
            entry = parse_json(body)
            identifier, verdict, comment = (str(entry[name]) for name in ("identifier", "verdict", "comment"))
            comment.encode("utf-8")
        except (ValueError, KeyError, TypeError):
            raise VseamError("expected an object of identifier, verdict and comment") from None
        if identifier not in self._identifiers:
            raise VseamError("this edit is not on the page")
        with self._lock:
            self._decide(identifier, verdict, comment)
            self.decided += 1


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """What ends a single request, such as a browser that leaves, is kept in the log and ends nothing else."""
        _log.info("a request was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    review: ReviewServer
    server_version = "vseam"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        try:
            parts = urlsplit(self.path)
            token = parse_qs(parts.query).get("token", [None])[0]
        except ValueError:
            self._reply(HTTPStatus.BAD_REQUEST, b"no such address")
            return
        if not self.review.knows(self.headers.get("Host"), token):
            self._reply(HTTPStatus.FORBIDDEN, b"open the address that vseam printed")
        elif parts.path != "/":
            self._reply(HTTPStatus.NOT_FOUND, b"no such page")
        else:
            self._reply(HTTPStatus.OK, self.review.page(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self.review.knows(self.headers.get("Host"), self.headers.get("X-Token")) or self.path != "/verdict":
            self._reply(HTTPStatus.FORBIDDEN, b"not allowed")
        elif not _LENGTH.fullmatch(length) or int(length) > _MOST_BYTES:
            self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too long")
        else:
            try:
                self.review.store(self.rfile.read(int(length)))
            except VseamError as error:
                self._reply(HTTPStatus.BAD_REQUEST, str(error).encode("utf-8"))
            else:
                self._reply(HTTPStatus.NO_CONTENT, b"")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: stderr is for what vseam does."""
