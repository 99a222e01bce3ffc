"""Which things can stand in for each other: siblings drawn from curated groups, never a synonym, a kind or a superior of the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.files import PlaceGroup, ThingGroup, objects_file, places_file


@dataclass(frozen=True)
class Known:
    """A term that the lexicon knows, as a question says it: `modifiers` before it, and whether it is in the plural."""

    term: str
    modifiers: str = ""
    is_plural: bool = False


class Siblings:
    """Groups of siblings with synonyms and kinds; terms are singular, in lower case."""

    def __init__(
        self, groups: Mapping[str, ThingGroup | PlaceGroup], same: Sequence[Sequence[str]], kinds: Mapping[str, Sequence[str]]
    ) -> None:
        self._names = {word: words[0] for words in same for word in words}
        self._groups: dict[str, list[tuple[str, ...]]] = {}
        self._labels: dict[str, str] = {}
        for label, group in groups.items():
            for term in group.terms:
                self._groups.setdefault(self.canonical(term), []).append(tuple(group.terms))
                self._labels.setdefault(self.canonical(term), label)
            # The first term of a group is what the group is for: its own group goes before those that merely contain it.
            self._labels[self.canonical(group.terms[0])] = label
        self._parents: dict[str, set[str]] = {}
        for parent, children in kinds.items():
            for child in children:
                self._parents.setdefault(self.canonical(child), set()).add(self.canonical(parent))
        self._own = {self.canonical(group.terms[0]): tuple(group.terms) for group in groups.values()}
        self._terms = {*self._names, *self._groups, *self._parents, *kinds}

    def canonical(self, term: str) -> str:
        """One name for all the words of a thing."""
        return self._names.get(term, term)

    def superiors(self, term: str) -> set[str]:
        """Everything that a term is a kind of, itself included."""
        found, waiting = set(), [self.canonical(term)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += sorted(self._parents.get(name, ()))
        return found

    def related(self, one: str, other: str) -> bool:
        """Whether two terms are the same thing or one is a kind of the other."""
        return self.canonical(one) in self.superiors(other) or self.canonical(other) in self.superiors(one)

    def siblings(self, term: str, without: Iterable[str] = ()) -> list[str]:
        """What can stand in for a term, in the order of the file; nothing related to it or to a term in `without`."""
        name = self.canonical(term)
        group = self._own.get(name) or next(iter(self._groups.get(name, ())), ())
        if not group:
            parents = [parent for parent in sorted(self._parents.get(name, ())) if parent in self._groups]
            group = self._own.get(parents[0]) or self._groups[parents[0]][0] if parents else ()
        avoided = [term, *without]
        return [found for found in group if not any(self.related(found, other) for other in avoided)]

    def label(self, term: str) -> str | None:
        """The group whose siblings a term takes, or None."""
        name = self.canonical(term)
        if name in self._labels:
            return self._labels[name]
        return next((self._labels[parent] for parent in sorted(self._parents.get(name, ())) if parent in self._labels), None)

    def knows(self, term: str) -> bool:
        """Whether a term occurs in the lexicon."""
        return term in self._terms

    def resolve(self, phrase: str, by_verb: bool = False) -> Known | None:
        """The longest end of a phrase that the lexicon knows, whatever its number; None where it knows none."""
        words = phrase.split()
        for start in range(len(words)):
            end = " ".join(words[start:])
            modifiers = " ".join(words[:start])
            if self.knows(end):
                return Known(end, modifiers, by_verb and english.is_plural(end, by_verb))
            if self.knows(english.singular(end)):
                return Known(english.singular(end), modifiers, True)
        return None


@lru_cache(maxsize=1)
def things() -> Siblings:
    """The things of `objects.yaml`."""
    file = objects_file()
    return Siblings(file.groups, file.same, file.kinds)


@lru_cache(maxsize=1)
def places() -> Siblings:
    """The places of `places.yaml`."""
    file = places_file()
    return Siblings(file.groups, file.same, file.kinds)


def usual_place(term: str) -> str:
    """Where a thing is usually found (`grass`, `table`), for painting one where nothing is known to be."""
    label = things().label(term)
    return objects_file().groups[label].stands if label else "ground"
