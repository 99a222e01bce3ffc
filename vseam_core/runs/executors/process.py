"""A worker process of this machine, started as `python -m vseam_core.runs.executors.process NUMBER` with the number of its socket.

It imports nothing of the program that started it: a plain script without a main guard is run once, whatever the number of workers.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from vseam_core.runs.executors.base import Call
from vseam_core.runs.executors.working import Worker


def serve(connection: Connection) -> None:
    """Do what comes through the connection until the other side is gone; then this process ends, whatever it is doing."""
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                calls.put(connection.recv())
        # Everything finished is in the store.
        os._exit(1)

    opening, threads = connection.recv()
    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        worker = Worker(opening, threads, lambda *said: connection.send(("said", said, None)))
        while True:
            call: Call = calls.get()
            connection.send(worker.answer(call))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
