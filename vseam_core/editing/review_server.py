"""Serves the review page on this machine only, and stores each verdict as it is given.

Only requests that carry the page's random token and name this host are answered: no other page or user can store a verdict.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection
from http import HTTPStatus

from vseam_core.errors import VseamError
from vseam_core.files import parse_json
from vseam_core.pages.serving import HOST as HOST
from vseam_core.pages.serving import LocalHandler, LocalServer

_MOST_BYTES = 20_000
_LENGTH = re.compile("[0-9]{1,9}")
Decide = Callable[[str, str, str], None]


class ReviewServer(LocalServer):
    """A server that is ready to run, as a `LocalServer` is.

    `page` makes the HTML from the token; `decide(identifier, verdict, comment)` stores a verdict and raises `VseamError`.
    `identifiers` are the edits that may be decided.
    """

    def __init__(self, page: Callable[[str], str], identifiers: Collection[str], decide: Decide, port: int = 0) -> None:
        super().__init__(_Handler, port)
        self.decided = 0
        self._page, self._identifiers, self._decide = page(self.token), frozenset(identifiers), decide
        self._lock = threading.Lock()

    def answer(self, path: str) -> tuple[bytes, str] | None:
        """The page, which is all there is."""
        return (self._page.encode("utf-8"), "text/html; charset=utf-8") if path == "/" else None

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


class _Handler(LocalHandler):
    local: ReviewServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self.local.knows(self.headers.get("Host"), self.headers.get("X-Token")) or self.path != "/verdict":
            self.reply(HTTPStatus.FORBIDDEN, b"not allowed")
        elif not _LENGTH.fullmatch(length) or int(length) > _MOST_BYTES:
            self.reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too long")
        else:
            try:
                self.local.store(self.rfile.read(int(length)))
            except VseamError as error:
                self.reply(HTTPStatus.BAD_REQUEST, str(error).encode("utf-8"))
            else:
                self.reply(HTTPStatus.NO_CONTENT, b"")
