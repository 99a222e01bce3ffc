"""Sizes in bytes as people write and read them (powers of 1024)."""

from __future__ import annotations

import re

from vseam_core.config.numbers import LARGEST_WHOLE_NUMBER

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str) -> int:
    """A size such as `2GB`, `512MiB` or `1.5G` in bytes. Raises `ValueError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    size = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    if not 1 <= size <= LARGEST_WHOLE_NUMBER:
        raise ValueError(f"{text!r} is no size; expected a number with a unit, such as 2GB or 512MB")
    return int(size)


def readable_bytes(size: float) -> str:
    """A number of bytes as text, such as `40 KB`, `512 MB` or `1.5 GB`."""
    unit = "KB" if size < 2**20 else "MB" if size < 2**30 else "GB"
    return f"{size / _UNITS[unit[0]]:.{1 if unit == 'GB' else 0}f} {unit}"
