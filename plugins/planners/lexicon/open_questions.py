"""Questions with an open answer: "what is the color of the horses", "how many boats …", "where is the cat", "which animal …"."""

from __future__ import annotations

import re

from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.existence import swap
from vseam_plugins.planners.lexicon.files import places_file, words_file
from vseam_plugins.planners.lexicon.qualities import Value, alternatives, as_adjective, value_of
from vseam_plugins.planners.lexicon.reading import Draft, Reading
from vseam_plugins.planners.lexicon.siblings import places, things

_ARTICLE = r"(?:the |an? |this |that |these |those )?"
_QUALITY = "(?:color|colour|material|texture)"
_WHAT_COLOR = (
    re.compile(rf"what is the {_QUALITY} of {_ARTICLE}(?P<what>.+)"),
    re.compile(rf"(?:what|which) {_QUALITY} (?P<verb>is|are|does|do) {_ARTICLE}(?P<what>.+?)(?: made of| have)?"),
    re.compile(rf"what is {_ARTICLE}(?P<what>.+?)'s {_QUALITY}"),
    re.compile(rf"what (?P<verb>is|are) {_ARTICLE}(?P<what>.+?) made (?:out )?of"),
)
_HOW_MANY = re.compile(r"how many (?P<what>.+)")
_WHERE = re.compile(r"where (?:is|are|was|were|did|does|do) (?P<what>.+)")
_WHAT = re.compile(r"(?:.* )?(?:what|which|who|whom)\b.*")
_LOOSE_END = re.compile(r"(?: (?:in|on|at|to|from|with|by|of|and|,|the|a|down|up))+$")
_LONGEST = 90
_VAGUE = 0.3


def what_color(reading: Reading) -> Draft | None:
    """The thing takes another colour or material, which is the new answer."""
    match = next((found for shape in _WHAT_COLOR if (found := shape.fullmatch(reading.text))), None)
    value = value_of(reading.gold) if match is not None else None
    if match is None or value is None or value.kind == "other":
        return None
    subject = _LOOSE_END.sub("", match["what"])
    is_vague = subject.split()[-1] in words_file().vague
    if not is_vague and not _is_thing(subject):
        raise reading.refuse(f"{subject!r} names nothing that could be painted")
    target = reading.draw(alternatives(value, subject), value.said)
    plural = "are" in match.groupdict().values()
    return Draft(
        level="attribute",
        source=value.said,
        target=target,
        phrase=english.a(f"{as_adjective(target, value.kind)} {subject}", plural),
        before=english.a(f"{as_adjective(value.said, value.kind)} {subject}", plural),
        answer=target,
        find=f"{as_adjective(value.said, value.kind)} {subject}",
        sure=_VAGUE if is_vague else 0.9 if value.kind == "color" else 0.8,
        objects=reading.named(subject),
        reasons=(f"{subject!r} says only vaguely what is to be painted",) if is_vague else (),
    )


def how_many(reading: Reading) -> Draft | None:
    """One more or one fewer of the counted things."""
    match = _HOW_MANY.fullmatch(reading.text)
    count = english.number(reading.gold)
    if match is None or count is None:
        return None
    subject = counted(match["what"])
    if not _is_thing(subject):
        raise reading.refuse(f"{subject!r} names nothing that could be counted")
    options = [other for other in (count - 1, count + 1) if 1 <= other <= 12]
    target = reading.rng.choice(options)
    return Draft(
        level="object",
        source=english.of_number(count, subject),
        target=english.of_number(target, subject),
        phrase=english.of_number(target, subject),
        before=english.of_number(count, subject),
        answer=english.as_written(target, reading.gold),
        find=english.plural(subject),
        sure=0.2,
        objects=reading.named(subject),
        reasons=("image generators do not count reliably",),
    )


def counted(phrase: str) -> str:
    """The noun phrase that a count is about: up to the first noun, with the noun that it stands before."""
    words = phrase.split()
    for start, word in enumerate(words):
        if start and word in _STOPS:
            return " ".join(words[:start])
        if english.is_plural(word) or word in words_file().plural:
            return " ".join(words[: start + 1])
        if things().resolve(word) is not None or word in _PEOPLE:
            following = words[start + 1] if start + 1 < len(words) else ""
            joined = following and following not in _STOPS and (things().resolve(following) is not None or english.is_plural(following))
            return " ".join(words[: start + (2 if joined else 1)])
    return words[0]


def where(reading: Reading) -> Draft | None:
    """The place becomes another place of its kind, with the thing in it."""
    match = _WHERE.fullmatch(reading.text)
    known = places().resolve(reading.gold) if match is not None else None
    if match is None or known is None:
        return None
    file = places_file()
    chosen = reading.draw(places().siblings(known.term), known.term)
    group = file.groups[places().label(known.term) or next(iter(file.groups))]
    says = file.prepositions.get(chosen, group.says)
    target = english.plural(chosen) if known.is_plural else chosen
    statement = english.mended(_LOOSE_END.sub("", match["what"].replace(" ,", ","))[:_LONGEST])
    return Draft(
        level="object",
        source=reading.gold,
        target=target,
        phrase=english.a(target),
        whole=f"{statement} {says} {english.a(target)}",
        before=english.a(reading.gold),
        answer=target,
        find=reading.gold,
        sure=group.sure,
        objects=reading.named(reading.gold),
        reasons=("the place is repainted, and what is in it must be kept",),
    )


def what(reading: Reading) -> Draft | None:
    """The thing that is the answer becomes a sibling, which is the new answer."""
    if _WHAT.fullmatch(reading.text) is None:
        return None
    if (known := things().resolve(reading.gold)) is not None:
        return swap(reading, known, "", 0.7)
    if (value := value_of(reading.gold)) is not None and value.kind != "other":
        return _value_of_something(reading, value)
    place = places().resolve(reading.gold)
    if place is None:
        return None
    target = reading.draw(places().siblings(place.term), place.term)
    reasons = ("the place is repainted, and what is in it must be kept",)
    return Draft(
        level="object",
        source=reading.gold,
        target=target,
        phrase=english.a(target),
        before=english.a(reading.gold),
        answer=target,
        find=reading.gold,
        sure=0.2,
        reasons=reasons,
    )


def _value_of_something(reading: Reading, value: Value) -> Draft | None:
    """A colour or material as the answer about the one annotated thing."""
    if len(reading.sample.objects) != 1:
        return None
    thing = reading.sample.objects[0]
    target = reading.draw(alternatives(value, thing.name.lower()), value.said)
    phrase, before = (english.a(f"{as_adjective(word, value.kind)} {thing.name.lower()}") for word in (target, value.said))
    return Draft(
        level="attribute",
        source=value.said,
        target=target,
        phrase=phrase,
        before=before,
        answer=target,
        find=thing.name.lower(),
        sure=0.7,
        objects=(thing,),
    )


def _is_thing(phrase: str) -> bool:
    """Whether a phrase names something that can be painted, as far as its last word says."""
    file = words_file()
    noun = phrase.split()[-1]
    if phrase in file.not_things or noun in file.not_things or not re.fullmatch(r"[a-z][a-z/ '-]*", phrase):
        return False
    return not noun.endswith("ing") or noun in file.things_in_ing or noun.removesuffix("s") in file.things_in_ing


_PEOPLE = ("person", "man", "woman", "boy", "girl", "child", "guy", "player", "skier", "surfer")
_STOPS = (
    "is", "are", "was", "were", "in", "on", "at", "with", "and", "that", "which", "who", "of", "does", "do", "did", "has", "have", "from",
    "by", "for", "to", "near", "next", "all", "stand", "standing", "sitting", "sit", "walking", "walk", "under", "over", "around",
    "behind", "being", "can", "it", "there", "the", "a", "an", "his", "her", "their", "one", "as", "while", "together", "up", "down",
)  # fmt: skip
