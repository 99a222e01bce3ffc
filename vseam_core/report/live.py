"""Serves the page of a database on this machine, drawn again when there is more in it: what a study finds while it runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from sqlalchemy import func, select

from vseam_core.pages.serving import LocalHandler, LocalServer
from vseam_core.store import schema
from vseam_core.store.store import Store


class LiveServer(LocalServer):
    """A server of one page, which `draw()` makes when `state()`, a word for what is stored, is another than before."""

    def __init__(self, state: Callable[[], str], draw: Callable[[], str], port: int = 0) -> None:
        super().__init__(LocalHandler, port)
        self._state, self._draw = state, draw
        self._lock = threading.Lock()
        self._drawn: tuple[str, bytes] | None = None

    def answer(self, path: str) -> tuple[bytes, str] | None:
        """The page, and the state that the page asks for to learn whether there is more."""
        if path == "/state":
            return json.dumps({"state": self._state()}).encode(), "application/json"
        if path != "/":
            return None
        with self._lock:
            state = self._state()
            if self._drawn is None or self._drawn[0] != state:
                self._drawn = (state, self._draw().encode("utf-8"))
            return self._drawn[1], "text/html; charset=utf-8"


def state_of(store: Store) -> str:
    """A word that changes whenever units or aggregates are added: how many there are, and the newest of each."""
    tables = (
        schema.studies,
        schema.runs,
        schema.units,
        schema.head_scores,
        schema.trace_scores,
        *schema.TEST_TABLES,
        *schema.METHOD_TABLES,
    )
    with store.reading() as connection:
        found = [connection.execute(select(func.count(), func.max(table.c.id)).select_from(table)).one() for table in tables]
        finished = connection.execute(select(func.max(schema.runs.c.finished))).scalar_one()
    return "-".join(f"{count}.{newest or 0}" for count, newest in found) + f"-{finished or ''}"
