"""How gold answers stand in files and how answers are compared: as text, in one normal form, beside the other word of yes and no."""

from __future__ import annotations

import math
from typing import Any

_OTHER = {"yes": "no", "no": "yes"}


def normal_answer(text: str) -> str:
    """An answer as it is compared: in lower case, without white space around it and full stops at its end.

    Both sides of every comparison go through this one function: gold answers and given ones, "Yes." and "yes" alike.
    """
    return text.strip().rstrip(".").strip().lower()


def gold_answer(value: Any, yes_no: bool = False) -> str:
    """A gold answer as text, from whatever a file holds; the one full stop at the end of "Yes." goes.

    A JSON true or false is yes or no; with `yes_no` so are 1 and 0, and these words as text. Numbers are written as they are counted (3,
    not 3.0). Raises `ValueError` with the reason for what is no answer: nothing, NaN, a list, an object.
    """
    text = reference_answer(value)
    if text.endswith(".") and text.count(".") == 1:
        text = text[:-1].strip()
    if not text:
        raise ValueError("is empty")
    return _YES_NO.get(text.lower(), text) if yes_no else text


def reference_answer(value: Any) -> str:
    """One of several human answers, as it was given. Raises `ValueError` as `gold_answer`."""
    return ("yes" if value else "no") if isinstance(value, bool) else written(value).strip()


def written(value: Any) -> str:
    """A text or a number as text. Raises `ValueError` with the reason for anything else."""
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("holds half of a character (an unpaired surrogate)")
        return value
    if value is None:
        raise ValueError("is missing (null)")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"is the number {value}")
        return str(int(value)) if value.is_integer() else repr(value)
    kind = {"list": "a list", "dict": "an object", "bytes": "bytes"}.get(type(value).__name__, f"a {type(value).__name__}")
    raise ValueError(f"is {kind}, not a text or a number")


_YES_NO = {"true": "yes", "1": "yes", "1.0": "yes", "false": "no", "0": "no", "0.0": "no"}


def other_word(answer: str) -> str | None:
    """The other answer of a yes/no question, written as the answer is; None for any other answer."""
    other = _OTHER.get(normal_answer(answer))
    if other is None:
        return None
    text = answer.strip().rstrip(".").strip()
    return other.upper() if text.isupper() else other.capitalize() if text[0].isupper() else other
