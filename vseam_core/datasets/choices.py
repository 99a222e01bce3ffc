"""Multiple choice: which options a record offers, how they are asked, and which letter is right."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Any

from vseam_core.datasets.answer_rules import LETTERS
from vseam_core.datasets.answers import normal_answer, written
from vseam_core.datasets.records import Record
from vseam_core.errors import SampleError

COLUMNS = ("options", "choices")
INSTRUCTION = "{question}\nAnswer with the option's letter from the given choices directly."
_ONE_EACH = (("{}", LETTERS), ("choice_{}", LETTERS.lower()), ("option_{}", LETTERS.lower()))


def options_column(record: Record) -> str:
    """The column that offers the options of a record, the first of several; "" where it offers none."""
    for column in COLUMNS:
        if record.fields.get(column):
            return column
    for pattern, letters in _ONE_EACH:
        if all(record.fields.get(pattern.format(letter)) is not None for letter in letters[:2]):
            return pattern.format(letters[0])
    return ""


def options_of(record: Record, column: str = "") -> tuple[str, ...]:
    """The options of a record, in order: a list (as JSON or Python text too), or one column each (A, B …; choice_a …; option_a …).

    Raises `SampleError` for options that are not at least two different texts, or more than there are letters.
    """
    column = column if record.fields.get(column) else options_column(record)
    if not column:
        return ()
    values = _values(record, column)
    try:
        options = tuple(written(value).strip() for value in values if value not in (None, ""))
    except ValueError as reason:
        raise SampleError(f"{record.place}: {column}: an option {reason}") from None
    if not 2 <= len(options) <= len(LETTERS) or len({normal_answer(option) for option in options}) < len(options):
        raise SampleError(f"{record.place}: {column}: expected 2 to {len(LETTERS)} different options, found {len(options)}")
    return options


def _values(record: Record, column: str) -> Sequence[Any]:
    for pattern, letters in _ONE_EACH:
        if column == pattern.format(letters[0]):
            return [record.fields.get(pattern.format(letter)) for letter in letters]
    value = record.fields[column]
    if isinstance(value, str):
        value = _read_list(value)
    if not isinstance(value, (list, tuple)):
        raise SampleError(f"{record.place}: {column}: expected a list of options, found a {type(value).__name__}")
    return value


def _read_list(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def asked_with(question: str, options: Sequence[str], form: str = "{letter}. {option}") -> str:
    """The question with its options below it, each after its letter."""
    return "\n".join([question, *(form.format(letter=letter, option=option) for letter, option in zip(LETTERS, options, strict=False))])


def right_letter(record: Record, gold: Any, options: Sequence[str]) -> str:
    """The letter of the right option. `gold` is the option's text, its letter, or its number counted from 0.

    Raises `SampleError` for a gold answer that is none of the options, or that is one by its text and another by its letter.
    """
    try:
        text = written(gold).strip()
    except ValueError as reason:
        raise SampleError(f"{record.place}: the gold answer {reason}") from None
    by_text = [letter for letter, option in zip(LETTERS, options, strict=False) if normal_answer(option) == normal_answer(text)]
    letters, number = LETTERS[: len(options)], int(text) if text.isascii() and text.isdigit() and len(text) < 3 else -1
    by_place = letters[number] if 0 <= number < len(options) else text.strip("().").upper()
    by_place = by_place if len(by_place) == 1 and by_place in letters else ""
    found = {*by_text, *([by_place] if by_place else [])}
    if isinstance(gold, int) and by_place:
        return by_place
    if len(found) != 1:
        what = "is none of the options" if not found else "is one option by its text, another by its letter or number"
        raise SampleError(f"{record.place}: the gold answer {text!r:.60} {what}")
    return found.pop()
