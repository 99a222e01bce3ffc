"""Captions about where things are: one that is true or false of the image (VSR), or several of which one is true (What'sUp)."""

from __future__ import annotations

import re

from vseam_plugins.planners.lexicon.reading import Draft, Reading
from vseam_plugins.planners.lexicon.relations import said_in_caption, stands_to

_CONTAINS = re.compile(r"(?P<around>.+?) (?P<verb>contains|contain) (?P<inside>.+)")
_IS = re.compile(r"(?P<subject>.+?) (?P<verb>is|are) (?P<rest>.+)")
_STATEMENT = re.compile(r"is (?:the|this) (?:following )?(?:statement|caption)(?: about the image)? true[?:] (?P<caption>.+)")


def as_question(text: str) -> str:
    """The question that asks whether a caption is true, as one asks about things: "is the cat behind the car".

    Another text stays as it is; of a caption that cannot be asked so, the caption itself is left, which no rule reads.
    """
    found = _STATEMENT.fullmatch(text)
    if found is None:
        return text
    if (contains := _CONTAINS.fullmatch(found["caption"])) is not None:
        return f"is {contains['inside']} in {contains['around']}"
    stated = _IS.fullmatch(found["caption"])
    return f"{stated['verb']} {stated['subject']} {stated['rest']}" if stated is not None else found["caption"]


def captions(reading: Reading) -> Draft | None:
    """Of captions with the same two things one is true: another one becomes true, drawn by the seed."""
    sample = reading.sample
    texts = sample.metadata.get("options")
    if not isinstance(texts, tuple | list) or sample.answer not in sample.options or len(texts) != len(sample.options):
        return None
    read = {letter: said_in_caption(str(text).lower().rstrip(". ")) for letter, text in zip(sample.options, texts, strict=True)}
    gold = read[sample.answer]
    if gold is None:
        return None
    others = [letter for letter, parts in read.items() if parts and parts.things == gold.things and parts.relation != gold.relation]
    chosen = reading.draw(sorted(others), gold.relation)
    target = read[chosen]
    return None if target is None else stands_to(reading, gold, target.relation, chosen)
