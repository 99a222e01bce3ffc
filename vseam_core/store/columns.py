"""The kinds of column that the tables are made of, with the checks that belong to each.

Numbers are checked to be finite: SQLite turns NaN into NULL, so NOT NULL stops it, and a CHECK stops infinity and text.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Double, ForeignKey, Integer, LargeBinary, MetaData, String

metadata = MetaData()
"""What all tables belong to."""

ARRAY_DTYPE = "<f4"
JSON_KIND = "json"
"""Where a column of JSON notes what its text holds: an object (`dict`) or a list."""

# A server orders text as SQLite does, by code points, and holds the same whole numbers.
TEXT = String().with_variant(String(collation="C"), "postgresql")
_WHOLE = Integer().with_variant(BigInteger(), "postgresql")

_LARGEST = "1.7976931348623157e308"


def row_id() -> Column[int]:
    """The number that other tables refer to a row by."""
    return Column("id", Integer, primary_key=True)


def text(name: str, default: str | None = None) -> Column[str]:
    """A text that is always there; with a default, one that may be left out."""
    return Column(name, TEXT, nullable=False, server_default=default)


def optional_text(name: str) -> Column[str]:
    """A text, or null where there is none."""
    return Column(name, TEXT, nullable=True)


def json_object(name: str, default: str | None = None, *, nullable: bool = False) -> Column[str]:
    """An object as JSON text; `vseam db check` looks whether it is one."""
    return Column(name, TEXT, nullable=nullable, server_default=default, info={JSON_KIND: dict})


def json_list(name: str) -> Column[str]:
    """A list as JSON text."""
    return Column(name, TEXT, nullable=False, info={JSON_KIND: list})


def count(name: str, default: str | None = None) -> Column[int]:
    """A whole number that is always there."""
    return Column(name, _WHOLE, nullable=False, server_default=default)


def optional_count(name: str) -> Column[int]:
    """A whole number, or null where there is none to give."""
    return Column(name, _WHOLE, nullable=True)


def number(name: str, default: str | None = None) -> Column[float]:
    """A finite number that is always there."""
    return Column(name, Double, _finite(name), nullable=False, server_default=default)


def optional_number(name: str) -> Column[float]:
    """A finite number, or null where there is none to give (an empty subset, no competitor)."""
    return Column(name, Double, _finite(name), nullable=True)


def _finite(name: str) -> CheckConstraint:
    return CheckConstraint(f"{name} BETWEEN -{_LARGEST} AND {_LARGEST}")


def flag(name: str, default: str | None = None) -> Column[bool]:
    """Yes or no: 1 or 0 in SQLite."""
    return Column(name, Boolean(create_constraint=True, name=None), nullable=False, server_default=default)


def optional_flag(name: str) -> Column[bool]:
    """Yes, no, or null where nobody looked."""
    return Column(name, Boolean(create_constraint=True, name=None), nullable=True)


def reference(name: str, target: str, *, nullable: bool = False, cascade: bool = True) -> Column[int]:
    """The id of a row of `target`; with `cascade`, rows go when the one they hang on goes."""
    key = ForeignKey(f"{target}.id", ondelete="CASCADE" if cascade else None)
    return Column(name, Integer, key, nullable=nullable)


def array() -> list[Any]:
    """A float32 matrix: its bytes, its shape, a check that they agree, and a checksum by which a damaged one is known."""
    return [
        count("height"),
        count("width"),
        text("dtype"),
        Column("data", LargeBinary, nullable=False),
        count("checksum", "0"),
        CheckConstraint("length(data) = 4 * height * width"),
        CheckConstraint(f"dtype = '{ARRAY_DTYPE}'"),
    ]
