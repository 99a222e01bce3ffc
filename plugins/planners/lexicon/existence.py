"""Questions about what there is: "Is there a dog in the image?", "Do you see a red car on the road?"."""

from __future__ import annotations

import re

from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.reading import Draft, Reading
from vseam_plugins.planners.lexicon.siblings import Known, things, usual_place

_PICTURE = r"(?: (?:in|on|inside) (?:this|the|that) (?:picture|image|imange|photograph|photo|scene))?"
_ARTICLE = r"(?:an? |the |any |some |either )?"
_SHAPES = (
    re.compile(rf"(?P<verb>is|are) there {_ARTICLE}(?P<what>.+?){_PICTURE}"),
    re.compile(rf"(?P<verb>do|can) you (?:see|notice) {_ARTICLE}(?P<what>.+?){_PICTURE}"),
    re.compile(
        r"(?P<verb>do|does|is) (?:this|the) (?:picture|image|photograph|photo|scene) "
        rf"(?:show|contain|have|showing|depict) {_ARTICLE}(?P<what>.+)"
    ),
)
# What stands after the thing and does not name it: "a dog on the grass", "a chair that is red".
_TAIL = re.compile(
    r" (?:that|which|who|to the|on|in|at|near|next to|beside|behind|under|below|above|with|wearing|holding|in front of|made of|of) .*"
)
_SEVERAL = re.compile(r" (?:or|and) ")
_SURE = 0.9


def existence(reading: Reading) -> Draft | None:
    """The thing asked for becomes a sibling, so that it is there no longer; where it is absent, something becomes it."""
    match = next((found for shape in _SHAPES if (found := shape.fullmatch(reading.text))), None)
    if match is None or reading.is_yes is None:
        return None
    phrase = match["what"].strip()
    tail = (_TAIL.search(phrase) or [""])[0]
    core = phrase.removesuffix(tail)
    if _SEVERAL.search(core):
        raise reading.refuse("it asks about two things at once")
    known = things().resolve(core, by_verb=match["verb"] == "are")
    if known is None:
        raise reading.refuse(f"the lexicon does not know {core!r}")
    return _vanish(reading, known, tail) if reading.is_yes else _appear(reading, known, core, tail)


def swap(reading: Reading, known: Known, answer: str, sure: float, reasons: tuple[str, ...] = (), tail: str = "") -> Draft:
    """A thing in the picture becomes one of its siblings; `answer` empty: the sibling's name is the new answer."""
    names = reading.others(known.term)
    chosen = reading.draw(things().siblings(known.term, names) or things().siblings(known.term), known.term)
    target, source = (english.plural(chosen), english.plural(known.term)) if known.is_plural else (chosen, known.term)
    found = reading.named(known.term)
    if len(found) > 1 and not known.is_plural:
        reasons = (*reasons, f"{len(found)} things of that name are painted over")
    return Draft(
        level="object",
        source=source,
        target=target,
        phrase=english.a(f"{known.modifiers} {target}".strip()),
        whole=f"{english.a(f'{known.modifiers} {target}'.strip())}{tail}",
        before=english.a(source, known.is_plural),
        answer=answer or target,
        find=f"{known.modifiers} {source}".strip(),
        sure=sure,
        objects=found,
        reasons=reasons,
    )


def _vanish(reading: Reading, known: Known, tail: str) -> Draft:
    return swap(reading, known, reading.flipped, _SURE if not tail else _SURE - 0.1, tail=tail)


def _appear(reading: Reading, known: Known, core: str, tail: str) -> Draft:
    """Something in the picture becomes the thing asked for: a sibling of it, else another thing, else a part of the usual place."""
    siblings = things().siblings(known.term)
    named = [thing for thing in reading.sample.objects if thing.name.strip()]
    candidates = [thing for thing in named if not things().related(english.singular(thing.name.lower()), known.term)]
    akin = [thing for thing in candidates if things().canonical(english.singular(thing.name.lower())) in map(things().canonical, siblings)]
    chosen = (akin or candidates)[:1]
    phrase = english.a(core)
    if chosen:
        source, sure = chosen[0].name.lower(), 0.8 if akin else 0.4
        reasons: tuple[str, ...] = () if akin else (f"{english.a(source)} is no sibling of {phrase}",)
        before, whole = english.a(source), f"{phrase}{tail}"
    else:
        source, sure = usual_place(known.term), 0.2
        before, whole = "", f"{phrase}{tail or _placed(source)}"
        reasons = ("nothing that could be replaced is annotated: it is painted where such a thing is usually found",)
    return Draft(
        level="object",
        source=source,
        target=core,
        phrase=phrase,
        before=before,
        answer=reading.flipped,
        find=source,
        sure=sure,
        objects=tuple(chosen),
        whole=whole,
        reasons=reasons,
    )


def _placed(place: str) -> str:
    says = "in" if place in ("water", "sky", "vase", "hand", "river", "house") else "on"
    return f" {says} {'the' if place not in ('neck',) else 'a'} {place}"
