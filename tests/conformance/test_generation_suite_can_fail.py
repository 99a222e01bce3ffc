"""Every promise of the suite for generation methods is broken once, by a method that is wrong in one way."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tests.conformance.support import assert_broken
from vseam_core.api.generation import Branch, BranchedGeneration, Decoded, GenerationMethod, OwnGeneration
from vseam_core.testing import GenerationMethodConformance
from vseam_plugins.generation.contrast import NoisedImageContrast
from vseam_plugins.generation.prompts import noised


class Wrong(NoisedImageContrast):
    """A contrast with one fault."""

    def __init__(self, fault: str = ""):
        super().__init__()
        self.fault = fault

    def branches(self, context: Any) -> Any:
        image, noise = super().branches(context)
        if self.fault == "another":
            return (Branch(context.model.encode(context.image(), "What is it?")), noise)
        return (image, image) if self.fault == "twice" else (image, noise)

    def combine(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        if self.fault == "shape":
            return logits
        if self.fault == "nan":
            return logits[0] * float("nan")
        if self.fault == "nothing":
            return torch.full_like(logits[0], -torch.inf)
        if self.fault == "in place":
            logits += 1
        return super().combine(logits, step)

    def settings(self) -> Any:
        return {"none": (), "same": ({"alpha": 1.0}, {"alpha": 1.0})}.get(self.fault, ({},))

    def options(self) -> Any:
        return {"fault": self.fault, **({"object": object()} if self.fault == "options" else {})}


class Idle(BranchedGeneration):
    name = "idle"

    def branches(self, context: Any) -> Any:
        return (Branch(context.prompt),)


class Drawn(NoisedImageContrast):
    """Another noise each time."""

    drawn = itertools.count()

    def branches(self, context: Any) -> Any:
        return (Branch(context.prompt), Branch(noised(context.prompt, 900, next(self.drawn))))


class Spoiling(OwnGeneration):
    """Leaves the model changed, and answers the second question otherwise than alone."""

    name = "spoiling"
    asked = 0

    def generate(self, context: Any, max_new_tokens: int) -> Decoded:
        with torch.no_grad():
            next(iter(context.model.module.parameters())).mul_(1.5)
        self.asked += 1
        return Decoded(f"answer {self.asked}", None)


class Neither(GenerationMethod):
    name = "neither"


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("another", "test_its_first_branch_is_the_question", "the first branch is the question"),
        ("twice", "test_its_first_branch_is_the_question", "branches differ"),
        ("shape", "test_logits_of_branches_become_one_row", "one row"),
        ("nan", "test_logits_of_branches_become_one_row", "numbers"),
        ("nothing", "test_logits_of_branches_become_one_row", "some token is left"),
        ("in place", "test_logits_of_branches_become_one_row", "stay as they are"),
        ("none", "test_its_settings_can_be_made", "at least one"),
        ("same", "test_its_settings_can_be_made", "listed twice"),
        ("options", "test_it_says_what_identifies_its_results", "plain values"),
    ],
)
def test_wrong_contrasts_are_caught(fault: str, test: str, message: str) -> None:
    assert_broken(GenerationMethodConformance, lambda: Wrong(fault), test, message)


def test_methods_that_do_nothing_or_other_things_each_time_are_caught() -> None:
    suite = GenerationMethodConformance
    assert_broken(suite, Neither, "test_it_is_a_method_that_answers", "BranchedGeneration or an OwnGeneration")
    assert_broken(suite, Idle, "test_it_changes_the_answer_unless_it_is_meant_not_to", "changes what is answered")
    busy = {"neutral": lambda self: NoisedImageContrast()}
    assert_broken(suite, Wrong, "test_it_changes_the_answer_unless_it_is_meant_not_to", "neutral", **busy)
    assert_broken(suite, Drawn, "test_it_is_the_same_each_time", "the same answers each time")
    spoiling = Spoiling()
    assert_broken(suite, lambda: spoiling, "test_a_batch_gives_what_single_questions_give", "a batch gives")
    assert_broken(suite, Spoiling, "test_the_model_is_left_as_it_was", "as before")
