"""One question as the rules read it: its words, its gold answer, the annotated things it names, and the seeded choice."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vseam_core.api.interfaces import EditPlan
from vseam_core.api.types import Box, Level, Sample, SceneObject
from vseam_core.errors import SampleError
from vseam_plugins.planners.lexicon import english
from vseam_plugins.planners.lexicon.siblings import things

_LENGTH = 300
_FULL_ANSWER_KEYS = ("full_answer", "fullAnswer")


def tidy(question: str) -> str:
    """A question in lower case with plain quotes and spaces, without its end mark."""
    text = question.lower().replace("``", "").replace("''", "").replace("’", "'").replace('"', "")
    text = re.sub(r" 's\b", "'s", text)
    return " ".join(text.split()).rstrip("?.! ,")


@dataclass(frozen=True)
class Draft:
    """What a rule proposes. `find` are the words by which a mask provider finds the region where no box is known."""

    level: Level
    source: str
    target: str
    phrase: str
    before: str
    answer: str
    find: str
    sure: float
    objects: tuple[SceneObject, ...] = ()
    boxes: tuple[Box, ...] = ()
    whole: str = ""
    reasons: tuple[str, ...] = ()


@dataclass
class Reading:
    """A sample's question, ready for the rules."""

    sample: Sample
    rng: random.Random
    text: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.sample.question) > _LENGTH:
            raise SampleError(
                f"{self.sample.identifier}: the question has {len(self.sample.question)} characters, at most {_LENGTH} are read"
            )
        self.text = tidy(self.sample.question)

    @property
    def gold(self) -> str:
        """The gold answer in lower case."""
        return self.sample.answer.strip().lower().rstrip(".")

    @property
    def is_yes(self) -> bool | None:
        """Whether the gold answer is yes or no; None for another one."""
        return {"yes": True, "no": False}.get(self.gold)

    @property
    def flipped(self) -> str:
        """The other of yes and no, in the case of the gold answer."""
        other = "no" if self.is_yes else "yes"
        answer = self.sample.answer.strip()
        return other.upper() if answer.isupper() else other.capitalize() if answer[:1].isupper() else other

    @property
    def full_answer(self) -> str:
        """The whole-sentence answer that some benchmarks give ("The sky is gray."), tidied; empty where there is none."""
        metadata: Mapping[str, object] = self.sample.metadata
        found = next((metadata[key] for key in _FULL_ANSWER_KEYS if isinstance(metadata.get(key), str)), "")
        return tidy(str(found))

    def refuse(self, reason: str) -> SampleError:
        """The error that skips this sample."""
        return SampleError(f"{self.sample.identifier}: {reason} (question {self.sample.question[:_LENGTH]!r})")

    def draw(self, options: Sequence[str], what: str) -> str:
        """One of the options by the seed. Raises `SampleError` where there is none."""
        if not options:
            raise self.refuse(f"the lexicon knows nothing to put in place of {what!r}")
        return self.rng.choice(list(options))

    def named(self, phrase: str) -> tuple[SceneObject, ...]:
        """The annotated objects that a phrase names: by the same word, else by its last words, else as a kind of it.

        Boxes without a name are of whatever the question is about.
        """
        unnamed = [thing for thing in self.sample.objects if not thing.name.strip()]
        if unnamed:
            return tuple(unnamed)
        wanted = english.singular(phrase)
        exact = [thing for thing in self.sample.objects if english.singular(thing.name.lower()) == wanted]
        if exact:
            return tuple(exact)
        known = things()
        same = [
            thing
            for thing in self.sample.objects
            if known.canonical(english.singular(thing.name.lower())) == known.canonical(wanted)
            or _is_end(wanted, english.singular(thing.name.lower()))
        ]
        if same:
            return tuple(same)
        return tuple(
            thing for thing in self.sample.objects if known.canonical(wanted) in known.superiors(english.singular(thing.name.lower()))
        )

    def others(self, phrase: str) -> list[str]:
        """The names of the annotated objects that a phrase does not name."""
        mine = self.named(phrase)
        return [english.singular(thing.name.lower()) for thing in self.sample.objects if thing not in mine]

    def plan(self, draft: Draft) -> EditPlan:
        """The draft as a plan; raises `SampleError` where it would change nothing or say nothing."""
        boxes = draft.boxes or tuple(thing.box for thing in draft.objects)
        if draft.source.lower() == draft.target.lower() or not draft.phrase.strip():
            raise self.refuse(f"{draft.source!r} would not change")
        reasons, sure = draft.reasons, draft.sure
        if self.sample.objects and not boxes:
            reasons, sure = (*reasons, f"no annotated object is called {draft.find!r}"), sure * 0.7
        return EditPlan(
            source_term=draft.source,
            target_term=draft.target,
            prompt=draft.whole or draft.phrase,
            target_answer=draft.answer,
            confidence=round(sure, 2),
            level=draft.level,
            boxes=tuple(dict.fromkeys(boxes)),
            region_prompt=draft.phrase,
            negative_prompt=draft.before,
            reason="; ".join(reasons),
            find=draft.find,
        )


def _is_end(one: str, other: str) -> bool:
    """Whether one name is the other with words in front: `tea kettle`, `kettle`."""
    return one.endswith(" " + other) or other.endswith(" " + one)
