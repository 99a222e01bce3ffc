"""The lexicon's data files beside this module, read and validated: plain YAML that a person can check and extend.

A wrong entry (an unknown field, a word that YAML reads as true or false) is an `InvalidFileError` with file and line.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vseam_core.config.yaml_files import read_yaml

FOLDER = Path(__file__).parent
Paint = Literal["subject", "other", "both", "move"]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ThingGroup(_File):
    """Siblings of one kind: what can stand in for what, and where such things are found."""

    stands: str
    terms: list[str]


class PlaceGroup(_File):
    """Places of one kind, the preposition they take, and how sure it is that one can be painted as another."""

    says: str
    sure: float
    terms: list[str]


class ObjectsFile(_File):
    """`objects.yaml`."""

    groups: dict[str, ThingGroup]
    same: list[list[str]]
    kinds: dict[str, list[str]]


class PlacesFile(_File):
    """`places.yaml`."""

    groups: dict[str, PlaceGroup]
    same: list[list[str]]
    kinds: dict[str, list[str]]
    prepositions: dict[str, str]


class Palette(_File):
    """The colours that some things can plausibly have."""

    colors: list[str]
    things: list[str]


class ColorsFile(_File):
    """`colors.yaml`."""

    basic: list[str]
    others: list[str]
    spellings: dict[str, str]
    close: dict[str, list[str]]
    opposites: dict[str, str]
    palettes: dict[str, Palette]


class MaterialGroup(_File):
    """The materials that some things can plausibly be made of."""

    materials: list[str]
    things: list[str]


class MaterialsFile(_File):
    """`materials.yaml`."""

    words: dict[str, str]
    adjectives: dict[str, str]
    kinds: dict[str, list[str]]
    default: list[str]
    groups: dict[str, MaterialGroup]


class AttributesFile(_File):
    """`attributes.yaml`."""

    opposites: list[list[list[str]]]


class Relation(_File):
    """A relation by its words, what it can become, what is painted for that, and how sure that is."""

    words: list[str]
    becomes: list[str]
    paint: Paint
    sure: float
    why: str


class RelationsFile(_File):
    """`relations.yaml`."""

    reasons: dict[str, str]
    spatial: list[Relation]
    actions: list[Relation]
    postures: dict[str, list[str]]
    posture_places: list[str]
    at_rest: dict[str, str]
    posture_sure: float
    posture_at_places: dict[str, list[str]]


class WordsFile(_File):
    """`words.yaml`."""

    singular_in_s: list[str]
    only_plural: list[str]
    plural: list[str]
    mass: list[str]
    unique: list[str]
    not_things: list[str]
    things_in_ing: list[str]
    countable: list[str]
    vague: list[str]


@lru_cache(maxsize=1)
def objects_file() -> ObjectsFile:
    """Things and their siblings."""
    return read_yaml(FOLDER / "objects.yaml").validate(ObjectsFile)


@lru_cache(maxsize=1)
def places_file() -> PlacesFile:
    """Places and their siblings."""
    return read_yaml(FOLDER / "places.yaml").validate(PlacesFile)


@lru_cache(maxsize=1)
def colors_file() -> ColorsFile:
    """Colours."""
    return read_yaml(FOLDER / "colors.yaml").validate(ColorsFile)


@lru_cache(maxsize=1)
def materials_file() -> MaterialsFile:
    """Materials."""
    return read_yaml(FOLDER / "materials.yaml").validate(MaterialsFile)


@lru_cache(maxsize=1)
def attributes_file() -> AttributesFile:
    """Other qualities and their opposites."""
    return read_yaml(FOLDER / "attributes.yaml").validate(AttributesFile)


@lru_cache(maxsize=1)
def relations_file() -> RelationsFile:
    """Relations, actions and postures."""
    return read_yaml(FOLDER / "relations.yaml").validate(RelationsFile)


@lru_cache(maxsize=1)
def words_file() -> WordsFile:
    """What English inflection needs to know beyond its rules."""
    return read_yaml(FOLDER / "words.yaml").validate(WordsFile)
