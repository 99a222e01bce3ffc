"""Processor time: what this process and a database server on this machine really computed, however busy the machine is with other work."""

from __future__ import annotations

import time
from pathlib import Path


class ProcessorTime:
    """Seconds of processor time of this process and of all processes of a PostgreSQL server, by its data folder (Linux).

    Waiting for a disk is not in it, nor is waiting for a processor.
    """

    def __init__(self, folder: Path):
        self._server = int((folder / "postmaster.pid").read_text().split()[0])
        self._seen: dict[int, float] = {}

    def now(self) -> float:
        """What was computed so far; processes that have ended count with what they were last seen with."""
        children = Path(f"/proc/{self._server}/task/{self._server}/children").read_text().split()
        for number in map(int, children):
            try:
                nanoseconds = int(Path(f"/proc/{number}/schedstat").read_text().split()[0])
            except OSError:
                continue
            self._seen[number] = nanoseconds / 1e9
        return time.process_time() + sum(self._seen.values())
