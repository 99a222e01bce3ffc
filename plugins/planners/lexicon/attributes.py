"""Yes/no questions about qualities: "Is the car red?", "Is the table made of wood?", "Is the gate small and wooden?"."""

from __future__ import annotations

import re

from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.qualities import Value, alternatives, as_adjective, material_of, value_of
from vseam_plugins.planners.lexicon.reading import Draft, Reading

_BE = r"(?P<verb>is|are|does|do) (?:the |this |that |these |those |his |her |its |their )?"
_MADE_OF = re.compile(rf"{_BE}(?P<what>.+?) (?:made|constructed|built|makeup) (?:out )?(?:of|from) (?P<value>.+)")
_TWO = re.compile(rf"{_BE}(?P<what>.+?) (?P<one>[\w-]+) (?P<link>and|or) (?P<two>[\w-]+)")
_COLOR_OF = re.compile(r"is the (?:color|material) of (?:the |this |that )?(?P<what>.+?) (?P<value>[\w-]+)")
_SHADED = re.compile(rf"{_BE}(?P<what>.+?) (?:have )?(?P<value>(?:dark|light|bright|pale|deep) [\w-]+|[\w-]+(?: colored| in color)|[\w-]+)")
_SURE = {"color": 0.9, "material": 0.8, "other": 0.5}


def made_of(reading: Reading) -> Draft | None:
    """ "Is the fence made of wood?"."""
    match = _MADE_OF.fullmatch(reading.text)
    if match is None or reading.is_yes is None:
        return None
    material = material_of(match["value"])
    if material is None:
        raise reading.refuse(f"the lexicon knows no material {match['value']!r}")
    return turn(reading, match["what"], Value(match["value"], material, "material"), match["verb"] == "are")


def single(reading: Reading) -> Draft | None:
    """ "Is the car red?", "Is the sky dark blue?", "Is the color of the car red?"."""
    match = _COLOR_OF.fullmatch(reading.text) or _SHADED.fullmatch(reading.text)
    if match is None or reading.is_yes is None or match["what"].endswith((" the", " a", " an")):  # "is the cat behind the orange"
        return None
    value = value_of(match["value"])
    return None if value is None else turn(reading, match["what"], value, reading.text.startswith(("are", "do ")))


def double(reading: Reading) -> Draft | None:
    """ "Is the gate wooden and white?", "Is the fence wooden or metallic?"."""
    match = _TWO.fullmatch(reading.text)
    if match is None or (one := value_of(match["one"])) is None or (two := value_of(match["two"])) is None:
        return None
    plural = match["verb"] in ("are", "do")
    if reading.is_yes is None:
        return _choice(reading, match["what"], (one, two), plural) if match["link"] == "or" else None
    if match["link"] == "or":
        return _either(reading, match["what"], (one, two), plural)
    return _both(reading, match["what"], (one, two), plural)


def turn(reading: Reading, subject: str, value: Value, plural: bool) -> Draft:
    """The value asked about goes where the answer is yes, and comes where it is no."""
    if reading.is_yes:
        target = reading.draw(alternatives(value, subject), value.said)
        return _draft(
            reading, subject, source=value.word if value.kind == "material" else value.said, target=target, value=value, plural=plural
        )
    now = current(reading, subject, value)
    return _draft(reading, subject, source=now, target=value.word if value.kind == "material" else value.said, value=value, plural=plural)


def current(reading: Reading, subject: str, asked: Value) -> str:
    """What the thing is now, where it is not what was asked: from its annotation, else the full answer, else `not red`."""
    said = [attribute.lower() for thing in reading.named(subject) for attribute in thing.attributes]
    words = reading.full_answer.replace(",", " ").split()
    said += [" ".join(words[start : start + length]) for length in (2, 1) for start in range(len(words) - length + 1)]
    for text in said:
        found = value_of(text)
        if found is not None and found.kind == asked.kind and found.word != asked.word:
            return found.word if found.kind == "material" else found.said
    return f"not {asked.word}"


def _either(reading: Reading, subject: str, values: tuple[Value, Value], plural: bool) -> Draft | None:
    """Yes to "wooden or metallic": neither may hold afterwards."""
    if not reading.is_yes:
        return turn(reading, subject, values[0], plural)
    words = [value.word for value in values]
    said = [attribute.lower() for thing in reading.named(subject) for attribute in thing.attributes] + reading.full_answer.split()
    known = [value for value in map(value_of, said) if value is not None and value.word in words]
    source = known[0].word if known else " or ".join(words)
    target = reading.draw(alternatives(values[0], subject, words), source)
    return _draft(reading, subject, source=source, target=target, value=values[0], plural=plural)


def _choice(reading: Reading, subject: str, values: tuple[Value, Value], plural: bool) -> Draft | None:
    """ "Is the door open or closed?" with one of them as the answer: it becomes the other one."""
    gold = value_of(reading.gold)
    if gold is None or gold.word not in (values[0].word, values[1].word):
        return None
    other = values[1] if gold.word == values[0].word else values[0]
    return _draft(reading, subject, source=gold.said, target=other.said, value=gold, plural=plural, answer=other.said)


def _both(reading: Reading, subject: str, values: tuple[Value, Value], plural: bool) -> Draft | None:
    """Yes to "white and wooden": one of the two goes. No: what is known to be missing comes, else both are painted."""
    if reading.is_yes:
        value = values[reading.rng.randrange(2)]
        return turn(reading, subject, value, plural)
    for value in values:
        now = current(reading, subject, value)
        if not now.startswith("not "):
            return _draft(
                reading, subject, source=now, target=value.word if value.kind == "material" else value.said, value=value, plural=plural
            )
    both = f"{values[0].said} and {values[1].said}"
    phrase = english.a(f"{as_adjective(values[0].word, values[0].kind)} {as_adjective(values[1].word, values[1].kind)} {subject}", plural)
    reasons = ("which of the two is missing is not known",)
    found = reading.named(subject)
    return Draft(
        level="attribute",
        source=f"not {both}",
        target=both,
        phrase=phrase,
        before="",
        answer=reading.flipped,
        find=subject,
        sure=0.6,
        objects=found,
        reasons=reasons,
    )


def _draft(reading: Reading, subject: str, source: str, target: str, value: Value, plural: bool, answer: str = "") -> Draft:
    now = "" if source.startswith("not ") else f"{as_adjective(source, value.kind)} {subject}"
    return Draft(
        level="attribute",
        source=source,
        target=target,
        phrase=english.a(f"{as_adjective(target, value.kind)} {subject}", plural),
        before=english.a(now, plural) if now else "",
        answer=answer or (reading.flipped if reading.is_yes is not None else target),
        find=now or subject,
        sure=_SURE[value.kind],
        objects=reading.named(subject),
    )
