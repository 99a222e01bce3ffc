"""How sentences write numbers, intervals and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode


@dataclass(frozen=True)
class Finding:
    """One sentence: what was found (`found`), or what could not be resolved (`open`), and where the page shows what it rests on."""

    text: str
    kind: Literal["found", "open"]
    link: str = ""


def link(view: str, **parameters: str) -> str:
    """The address of a view within the page, such as `#heads?model=…`."""
    chosen = {name: value for name, value in parameters.items() if value}
    return f"#{view}?{urlencode(chosen)}" if chosen else f"#{view}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def number(value: float) -> str:
    """Two digits after the point below ten, one below a hundred; a minus sign as it is typeset."""
    text = f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("-", "−")


def nats(value: float, low: float | None, high: float | None) -> str:
    """`5.20 nats [4.40, 6.00]`, without brackets where there is no interval."""
    interval = "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
    return f"{number(value)} nats{interval}"


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """`99 % [96, 102]`, from shares of 1."""
    interval = "" if low is None or high is None else f" [{_whole(low)}, {_whole(high)}]"
    return f"{_whole(value)} %{interval}"


def probability(name: str, value: float) -> str:
    """`p = 0.03`, or `p < 0.001`."""
    return f"{name} < 0.001" if value < 0.001 else f"{name} = {value:.2g}"


def _whole(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")
