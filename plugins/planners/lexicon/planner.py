"""The lexicon planner: reads a question by rules, and draws what to change it into from curated siblings."""

from __future__ import annotations

import random
from collections.abc import Callable

from vseam_core.api.interfaces import EditPlan, EditPlanner
from vseam_core.api.types import Sample
from vseam_core.errors import SampleError
from vseam_plugins.planners.lexicon import attributes, captions, existence, open_questions, relations
from vseam_plugins.planners.lexicon.reading import Draft, Reading

Rule = Callable[[Reading], Draft | None]

# Tried in this order; the first one that reads the question plans it.
RULES: tuple[Rule, ...] = (
    captions.captions,
    existence.existence,
    attributes.made_of,
    attributes.double,
    attributes.single,
    relations.opposite_side,
    relations.relation,
    open_questions.what_color,
    open_questions.how_many,
    open_questions.where,
    open_questions.what,
)


class LexiconPlanner(EditPlanner):
    """Plans without any model: the same sample and seed always give the same plan, and another seed draws other siblings.

    Where the gold answer is yes, what the question names is changed so that it becomes no; where it is no, something annotated is
    changed into what the question names. An open question gets another answer of the same kind. Of captions one of which is true
    another one becomes true.
    """

    name = "lexicon"
    version = 2

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def plan(self, sample: Sample) -> EditPlan:
        """The plan of one edit. Raises `SampleError` where no rule reads the question, or the lexicon lacks one of its words."""
        reading = Reading(sample, random.Random(f"{self.seed}/{sample.image_id}/{sample.question}"))
        reading.text = captions.as_question(reading.text)
        for rule in RULES:
            draft = rule(reading)
            if draft is not None:
                return reading.plan(draft)
        raise SampleError(f"{sample.identifier}: no rule reads the question {sample.question[:200]!r} with answer {sample.answer[:40]!r}")
