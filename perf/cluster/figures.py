"""What a simulation gave, and the marks that it is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_DRIVER, MOST_TRANSACTIONS = 0.02, 200.0


@dataclass
class Figures:
    """What a simulation gave; times in seconds, of the workers' clock or of this machine."""

    workers: int
    units: int = 0
    tasks: int = 0
    modelled: float = 0.0
    length: float = 0.0
    planning: float = 0.0
    driver: float = 0.0
    storing: float = 0.0
    writing: float = 0.0
    closing: list[float] = field(default_factory=list)
    comparing: float = 0.0
    transactions: int = 0
    megabytes: float = 0.0

    @property
    def driver_share(self) -> float:
        """Planning and giving out tasks, as a share of the time that the study takes."""
        return (self.planning + self.driver) / self.length

    @property
    def per_second(self) -> float:
        """Transactions per second of the study."""
        return self.transactions / self.length

    def lines(self) -> Iterator[str]:
        """The figures in words."""
        yield f"{self.units:,} units in {self.tasks:,} tasks, {self.workers} workers"
        busy = self.modelled / self.workers / self.length
        yield f"length of the study: {self.length:,.0f} s, in {busy:.0%} of which models work (modelled)"
        yield f"driver: planning {self.planning:.1f} s, tasks {self.driver:.1f} s: {self.driver_share:.2%} (mark: {MOST_DRIVER:.0%})"
        yield f"transactions: {self.transactions:,}, {self.per_second:.1f} per second (mark: {MOST_TRANSACTIONS:.0f})"
        held = self.writing / self.length
        yield f"storing: {self.storing:.0f} s of all workers' time; the lock of writers is held {held:.1%} of the time"
        yield f"database: {self.megabytes:,.0f} MB"
        closing = f"{min(self.closing):.1f} to {max(self.closing):.1f} s for each dataset" if self.closing else "none"
        yield f"closing aggregation: {closing}; comparison of all datasets {self.comparing:.1f} s"
