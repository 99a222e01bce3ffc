"""Colours, materials and other qualities: what a value can turn into, on which thing, without staying true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.files import attributes_file, colors_file, materials_file
from vseam_plugins.planners.lexicon.siblings import things

Kind = Literal["color", "material", "other"]
_SHADES = ("dark", "light", "bright", "pale", "deep")


@dataclass(frozen=True)
class Value:
    """A quality as a question says it (`light blue`, `wooden`), its kind, and the word that stands for it (`blue`, `wood`)."""

    said: str
    word: str
    kind: Kind


def value_of(phrase: str) -> Value | None:
    """The quality that a phrase names, or None."""
    words = phrase.removesuffix(" in color").removesuffix(" colored").removesuffix("-colored").split()
    said = " ".join(words)
    shade, last = words[:-1], words[-1] if words else ""
    colors = colors_file()
    color = colors.spellings.get(last, last)
    if color in (*colors.basic, *colors.others) and all(word in _SHADES for word in shade):
        return Value(said, color, "color")
    if (material := material_of(said)) is not None:
        return Value(said, material, "material")
    return Value(said, said, "other") if said in _other_words() else None


def material_of(word: str) -> str | None:
    """The material that a word names, whatever its form (`wooden` → `wood`), or None."""
    file = materials_file()
    name = file.words.get(word, word)
    return name if name in _materials() else None


def alternatives(value: Value, subject: str, present: Iterable[str] = ()) -> list[str]:
    """What a quality of a subject can plausibly turn into; neither it nor anything close to it or to a value in `present`."""
    if value.kind == "other":
        return [word for word in _opposites(value.word) if word not in present]
    gone = [value.word, *(found.word for text in present if (found := value_of(text)) is not None)]
    if value.kind == "material":
        fit = [name for name in _materials_for(subject) if not any(_same_material(name, other) for other in gone)]
        return fit or [name for name in materials_file().default if not any(_same_material(name, other) for other in gone)]
    file = colors_file()
    if value.word in file.opposites and value.said == value.word:
        return [file.opposites[value.word]]
    fit = [color for color in _palette(subject) if not any(_close(color, other) for other in gone)]
    return fit or [color for color in file.basic if not any(_close(color, other) for other in gone)]


def as_adjective(value: str, kind: Kind) -> str:
    """A value as it stands before a noun: `wood` → `wooden`."""
    return materials_file().adjectives.get(value, value) if kind == "material" else value


def _close(one: str, other: str) -> bool:
    near = colors_file().close
    return one == other or other in near.get(one, ()) or one in near.get(other, ())


def _materials() -> set[str]:
    file = materials_file()
    listed = {*file.default, *file.kinds, *(kind for kinds in file.kinds.values() for kind in kinds)}
    return {*listed, *file.words.values(), *(name for group in file.groups.values() for name in group.materials), "rubber", "sand"}


def _same_material(one: str, other: str) -> bool:
    kinds = materials_file().kinds
    return one == other or other in kinds.get(one, ()) or one in kinds.get(other, ())


def _materials_for(subject: str) -> list[str]:
    file = materials_file()
    names = _names(subject)
    return next((group.materials for name in names for group in file.groups.values() if name in group.things), file.default)


def _palette(subject: str) -> list[str]:
    file = colors_file()
    names = _names(subject)
    return next((palette.colors for name in names for palette in file.palettes.values() if name in palette.things), file.basic)


def _names(subject: str) -> list[str]:
    """A subject's own words from the whole to its last noun, then in the singular, then what it is a kind of."""
    words = subject.split()
    ends = [" ".join(words[start:]) for start in range(len(words))]
    singular = [english.singular(end) for end in ends]
    above = [name for end in singular for name in sorted(things().superiors(end))]
    return [*ends, *singular, *above]


def _opposites(word: str) -> list[str]:
    found = [ways for ways in attributes_file().opposites if word in ways[0] or word in ways[1]]
    return list(dict.fromkeys((second if word in first else first)[0] for first, second in found))


def _other_words() -> set[str]:
    return {word for ways in attributes_file().opposites for side in ways for word in side}
