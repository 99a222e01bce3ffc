"""Questions about how two things stand to each other: "Is the cat behind the chair?", "Is the man riding the horse?"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from vseam_core.api.types import Box, SceneObject
from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.files import Paint, relations_file
from vseam_plugins.planners.lexicon.reading import Draft, Reading

_ARTICLE = r"(?:the |an? |this |that |these |those |his |her |its |their |some |any )?"
_DOES = re.compile(
    rf"(?P<verb>does|do) {_ARTICLE}(?P<subject>.+?) (?P<base>wear|hold|carry|ride|eat|use|watch|touch|pull|push) {_ARTICLE}(?P<other>.+)"
)
_EITHER_SIDE = re.compile(
    rf"(?P<verb>is|are) {_ARTICLE}(?P<subject>.+?) (?:to|on) the (?:left|right) or "
    rf"(?:to |on )?(?:the )?(?:left|right) of {_ARTICLE}(?P<other>.+)"
)
_SMALLEST_SHARE = 0.4  # of a thing's size that must fit at the place it is moved to


@dataclass(frozen=True)
class Change:
    """What a relation becomes, what is painted for that, how sure it is, and why not more."""

    becomes: tuple[str, ...]
    paint: Paint
    sure: float
    why: str


@dataclass(frozen=True)
class Stated:
    """What a caption says: the relation, as the lexicon has it, between two things."""

    relation: str
    things: tuple[str, str]


def said_in_caption(caption: str) -> Stated | None:
    """What a caption such as "a cup to the left of a chair" says, or None."""
    match = _caption_shape().fullmatch(caption)
    return None if match is None else Stated(match["relation"], (match["subject"], match["other"]))


def stands_to(reading: Reading, stated: Stated, target: str, answer: str) -> Draft:
    """The same two things in another relation, which makes `answer` true."""
    change = _changes()[stated.relation]
    subject, other = stated.things
    boxes, why = _boxes(reading, change, target, _one(reading, subject, None), _one(reading, other, None))
    return _placed(subject, other, stated.relation, target=target, answer=answer, change=change, boxes=boxes, why=why)


def relation(reading: Reading) -> Draft | None:
    """The relation asked about stops holding where the answer is yes, and comes to hold where it is no."""
    parts = _read(reading.text)
    if parts is None or reading.is_yes is None:
        return None
    verb, subject, said, other = parts
    change = _changes()[said]
    first, second = _one(reading, subject, None), _one(reading, other, None)
    if first is not None and first is second:
        second = _one(reading, other, first)
    if reading.is_yes:
        source, target = said, reading.draw(change.becomes, said)
    else:
        source, target = _holding(first, second) or reading.draw(change.becomes, said), said
    plural = verb in ("are", "do")
    boxes, why = _boxes(reading, change, target, first, second)
    subject_phrase, other_phrase = english.a(subject, plural), english.a(other)
    return Draft(
        level="relation",
        source=source,
        target=target,
        phrase=f"{subject_phrase} {target} {other_phrase}",
        before=f"{subject_phrase} {source} {other_phrase}",
        answer=reading.flipped,
        find=other if change.paint == "other" else subject,
        sure=change.sure,
        boxes=boxes,
        reasons=(change.why, *why),
    )


def opposite_side(reading: Reading) -> Draft | None:
    """ "Is the cup to the left or to the right of the plate?" with one of them as the answer."""
    match = _EITHER_SIDE.fullmatch(reading.text)
    if match is None or reading.gold not in ("left", "right"):
        return None
    source, answer = f"to the {reading.gold} of", "right" if reading.gold == "left" else "left"
    target = f"to the {answer} of"
    change = _changes()[source]
    boxes, why = _boxes(reading, change, target, _one(reading, match["subject"], None), _one(reading, match["other"], None))
    plural = match["verb"] == "are"
    return _placed(
        match["subject"], match["other"], source, target=target, answer=answer, change=change, boxes=boxes, why=why, plural=plural
    )


def _placed(
    subject: str,
    other: str,
    source: str,
    *,
    target: str,
    answer: str,
    change: Change,
    boxes: tuple[Box, ...],
    why: tuple[str, ...],
    plural: bool = False,
) -> Draft:
    """The draft that puts a thing to another place beside the same thing."""
    one, two = english.a(subject, plural), english.a(other)
    return Draft(
        level="relation", source=source, target=target, phrase=f"{one} {target} {two}", before=f"{one} {source} {two}",
        answer=answer, find=subject, sure=change.sure, boxes=boxes, reasons=(change.why, *why),
    )  # fmt: skip


def _read(text: str) -> tuple[str, str, str, str] | None:
    """The verb, the subject, the relation and the other thing of a question, or None."""
    if (match := _shape().fullmatch(text)) is not None:
        return match["verb"], match["subject"], match["relation"], match["other"]
    if (match := _DOES.fullmatch(text)) is not None:
        return match["verb"], match["subject"], english.participle(match["base"]), match["other"]
    return None


@lru_cache(maxsize=1)
def _shape() -> re.Pattern[str]:
    relations = "|".join(re.escape(words) for words in sorted(_changes(), key=len, reverse=True))
    return re.compile(rf"(?P<verb>is|are) {_ARTICLE}(?P<subject>.+?) (?P<relation>{relations}) {_ARTICLE}(?P<other>.+)")


@lru_cache(maxsize=1)
def _caption_shape() -> re.Pattern[str]:
    relations = "|".join(re.escape(words) for words in sorted(_changes(), key=len, reverse=True))
    return re.compile(rf"{_ARTICLE}(?P<subject>.+?) (?:is |are )?(?P<relation>{relations}) {_ARTICLE}(?P<other>.+)")


@lru_cache(maxsize=1)
def _changes() -> dict[str, Change]:
    """Every relation that questions may name, and how it can be changed."""
    file = relations_file()
    found: dict[str, Change] = {}
    for posture, others in file.postures.items():
        found[posture] = Change(tuple(others), "subject", file.posture_sure, file.reasons["pose"])
        for place in file.posture_places:
            found[f"{posture} {place}"] = Change(_other_postures(posture, place), "subject", file.posture_sure, file.reasons["pose"])
    for item in (*file.spatial, *file.actions):
        for words in item.words:
            found[words] = Change(tuple(item.becomes), item.paint, item.sure, file.reasons[item.why])
    return {words: change for words, change in found.items() if words not in file.postures}


def _other_postures(posture: str, place: str) -> tuple[str, ...]:
    """The same place in another posture; only the postures that make sense there."""
    file = relations_file()
    fit = file.posture_at_places.get(place, [*file.postures])
    others = [other for other in file.postures[posture] if other in fit] or [other for other in fit if other != posture]
    return tuple(f"{other} {place if other == 'walking' else file.at_rest.get(place, place)}" for other in others)


def _one(reading: Reading, phrase: str, without: SceneObject | None) -> SceneObject | None:
    return next((thing for thing in reading.named(phrase) if thing is not without), None)


def _holding(first: SceneObject | None, second: SceneObject | None) -> str | None:
    """The relation that is annotated between the two, or None."""
    if first is None or second is None or not second.identifier:
        return None
    return next((name for name, other in first.relations if other == second.identifier), None)


def _boxes(
    reading: Reading, change: Change, target: str, first: SceneObject | None, second: SceneObject | None
) -> tuple[tuple[Box, ...], tuple[str, ...]]:
    """What is to be painted, and what keeps it from being all of it."""
    if first is None or (second is None and change.paint != "subject"):
        missing = "first" if first is None else "second"
        known = first or second
        return ((known.box,) if known is not None else ()), (f"the {missing} thing has no box",) if reading.sample.objects else ()
    if change.paint == "subject" or second is None:
        return (first.box,), ()
    if change.paint == "other":
        return (second.box,), ()
    if change.paint == "both":
        return (first.box, second.box), ()
    place = _moved(first.box, second.box, target, _extent(reading))
    return ((first.box, place), ()) if place else ((first.box,), ("there is hardly any room on the other side",))


def _extent(reading: Reading) -> tuple[float, float]:
    """Width and height that the image has at least."""
    size = [reading.sample.metadata.get(name) for name in ("width", "height")]
    boxes = [thing.box for thing in reading.sample.objects]
    known = max(box[2] for box in boxes), max(box[3] for box in boxes)
    width, height = (float(given) if isinstance(given, int | float) else least for given, least in zip(size, known, strict=True))
    return width, height


def _moved(box: Box, other: Box, target: str, extent: tuple[float, float]) -> Box | None:
    """A box of the same size right beside another one, on the side that `target` names, cut at the image's known extent."""
    width, height = box[2] - box[0], box[3] - box[1]
    if "left" in target:
        place = (other[0] - width, box[1], other[0], box[3])
    elif "right" in target:
        place = (other[2], box[1], other[2] + width, box[3])
    elif target in ("above", "over", "on", "on top of"):
        place = (box[0], other[1] - height, box[2], other[1])
    else:
        place = (box[0], other[3], box[2], other[3] + height)
    cut = max(place[0], 0.0), max(place[1], 0.0), min(place[2], extent[0]), min(place[3], extent[1])
    is_enough = cut[2] - cut[0] >= _SMALLEST_SHARE * width and cut[3] - cut[1] >= _SMALLEST_SHARE * height
    return cut if is_enough else None
