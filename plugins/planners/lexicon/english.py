"""Articles and plurals of noun phrases, by `inflect` and the exceptions in `words.yaml`."""

from __future__ import annotations

import re
from functools import lru_cache

import inflect

from vseam_plugins.planners.lexicon.files import words_file

_AFTER_HEAD = re.compile(r" (?:of|in|on|at|with|to|for|that|which|who|next|from|under|behind|above|below) .*")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# Questions of a dataset are about the same things again and again.
_PHRASES = 50_000
_SAME_IN_PLURAL = ("sheep", "deer", "fish", "aircraft")


@lru_cache(maxsize=1)
def _engine() -> inflect.engine:
    return inflect.engine()


def head(phrase: str) -> str:
    """The last noun of a phrase before what follows it: `slices of pizza` → `slices`."""
    return _AFTER_HEAD.sub("", phrase).split()[-1]


def _core(phrase: str) -> str:
    return _AFTER_HEAD.sub("", phrase)


def _listed(phrase: str, words: list[str]) -> bool:
    core = _core(phrase)
    return any(core == word or core.endswith(" " + word) for word in words)


@lru_cache(maxsize=_PHRASES)
def is_mass(phrase: str) -> bool:
    """Whether the phrase takes no article because it names a stuff: `brown hair`."""
    words = words_file()
    return _listed(phrase, words.mass) and not _listed(phrase, [*words.only_plural, *words.countable])


@lru_cache(maxsize=_PHRASES)
def is_plural(phrase: str, by_verb: bool = False) -> bool:
    """Whether the phrase is plural in form. `by_verb` (the question says "are") decides where the form does not: `sheep`."""
    words = words_file()
    noun = head(phrase)
    if _listed(phrase, words.only_plural) or noun in words.plural:
        return True
    if noun in _SAME_IN_PLURAL:
        return by_verb
    if is_mass(phrase) or _ends_like_a_singular(noun):
        return False
    found = _engine().singular_noun(noun)
    return bool(found) and found != noun


@lru_cache(maxsize=_PHRASES)
def singular(phrase: str) -> str:
    """The phrase with its last word in the singular; words without one stay as they are."""
    words = words_file()
    if not is_plural(phrase) or _listed(phrase, words.only_plural):
        return phrase
    first, noun = phrase[: -len(phrase.split()[-1])], phrase.split()[-1]
    found = _engine().singular_noun(noun)
    return first + (found if isinstance(found, str) and found else noun)


@lru_cache(maxsize=_PHRASES)
def plural(phrase: str) -> str:
    """The phrase with its last word in the plural; words without one stay as they are."""
    if is_plural(phrase) or is_mass(phrase) or head(phrase) in _SAME_IN_PLURAL:
        return phrase
    first, noun = phrase[: -len(phrase.split()[-1])], phrase.split()[-1]
    return first + _engine().plural_noun(noun)


@lru_cache(maxsize=_PHRASES)
def a(phrase: str, by_verb: bool = False) -> str:
    """The phrase as one says it of something new: `a car`, `an umbrella`, `the sky`, `brown hair`, `two dogs`."""
    words = words_file()
    if _listed(phrase, words.unique):
        return f"the {phrase}"
    if is_plural(phrase, by_verb) or is_mass(phrase) or phrase.split()[0] in (*_NUMBERS[1:], "some", "several", "the"):
        return phrase
    return _engine().a(phrase)


def mended(text: str) -> str:
    """A sentence with its articles put right: `the a clock` → `the clock`, `an view` → `a view`."""
    text = re.sub(r"\b(the|an?) (?:an?|the)\b", r"\1", text)
    return re.sub(r"\ban? (?P<word>[a-z][\w'-]*)", lambda match: _engine().a(match["word"]), text)


def of_number(count: int, phrase: str) -> str:
    """So many of a thing: `one giraffe`, `three giraffes`. Raises `ValueError` for a number that is not from 1 to 12."""
    if not 1 <= count <= len(_NUMBERS):
        raise ValueError(f"{count} is not from 1 to {len(_NUMBERS)}")
    return f"{_NUMBERS[count - 1]} {singular(phrase) if count == 1 else plural(phrase)}"


def number(word: str) -> int | None:
    """The number that a word or digits name, from 1 to 12, else None."""
    if word in _NUMBERS:
        return _NUMBERS.index(word) + 1
    return int(word) if word.isdecimal() and len(word) < 3 and 1 <= int(word) <= len(_NUMBERS) else None


def as_written(count: int, example: str) -> str:
    """A number in the way another one was written: digits or a word."""
    return str(count) if example.isdecimal() else _NUMBERS[count - 1]


def participle(verb: str) -> str:
    """`wear` → `wearing`."""
    return _engine().present_participle(verb)


def _ends_like_a_singular(noun: str) -> bool:
    return noun.endswith(("ss", "us", "is")) or noun in words_file().singular_in_s
