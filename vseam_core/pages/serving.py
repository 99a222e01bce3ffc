"""A server for one page on this machine: it answers requests that name this host and carry a random token, and nobody else's."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from vseam_core.errors import VseamError

HOST = "127.0.0.1"
_log = logging.getLogger(__name__)


class LocalServer:
    """A server that is ready to run: `address` is where a browser finds it. A context manager that closes its socket.

    `handler` is a kind of `LocalHandler`. Raises `VseamError` where the port is taken.
    """

    def __init__(self, handler: type[LocalHandler], port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        bound = type(handler.__name__, (handler,), {"local": self})
        try:
            self._server = _Server((HOST, port), bound)
        except OSError as error:
            raise VseamError(f"cannot serve on {HOST}:{port}: {error.strerror or error}") from None
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.address = f"http://{HOST}:{self.port}/?token={self.token}"

    def __enter__(self) -> Self:
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

    def answer(self, path: str) -> tuple[bytes, str] | None:
        """The body and kind of what lies at a path; None where nothing does."""
        raise NotImplementedError


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """What ends a single request, such as a browser that leaves, is kept in the log and ends nothing else."""
        _log.info("a request was not answered", exc_info=True)


class LocalHandler(BaseHTTPRequestHandler):
    """Answers GET by `LocalServer.answer`."""

    local: LocalServer
    server_version = "vseam"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer a request that has the token."""
        try:
            parts = urlsplit(self.path)
            token = parse_qs(parts.query).get("token", [None])[0]
        except ValueError:
            self.reply(HTTPStatus.BAD_REQUEST, b"no such address")
            return
        if not self.local.knows(self.headers.get("Host"), token):
            self.reply(HTTPStatus.FORBIDDEN, b"open the address that vseam printed")
            return
        found = self.local.answer(parts.path)
        if found is None:
            self.reply(HTTPStatus.NOT_FOUND, b"no such page")
        else:
            self.reply(HTTPStatus.OK, *found)

    def reply(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        """Send an answer that no other page may hold in a frame and nothing may keep."""
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
