"""The lexicon planner on captions: one that is true or false of an image (VSR), and several of which one is true (What'sUp)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vseam_core.api.types import SceneObject
from vseam_core.errors import SampleError
from vseam_core.testing.images import BOX, sample
from vseam_plugins.benchmarks.vsr import VsrBenchmark
from vseam_plugins.benchmarks.whatsup import WhatsUpBenchmark
from vseam_plugins.planners.lexicon.planner import LexiconPlanner

ASKED = "Is the following statement about the image true? "


@pytest.mark.parametrize(
    ("caption", "answer", "source", "target", "prompt"),
    [
        ("The cat is behind the car.", "yes", "behind", "in front of", "a cat in front of a car"),
        ("The cat is left of the dog.", "yes", "left of", "to the right of", "a cat to the right of a dog"),
        (
            "The handbag is at the right side of the bed.",
            "no",
            "to the left of",
            "at the right side of",
            "a handbag at the right side of a bed",
        ),
        ("The suitcase contains the cats.", "no", None, "in", "cats in a suitcase"),
        ("The cat is behind the orange.", "yes", "behind", "in front of", "a cat in front of an orange"),  # no colour
        ("The dogs are far from the bus.", "yes", "far from", "next to", "dogs next to a bus"),
        ("The cat is facing away from the toilet.", "yes", "facing away from", "facing", "a cat facing a toilet"),
    ],
)
def test_a_caption_of_vsr_is_planned_as_the_question_about_its_relation(
    caption: str, answer: str, source: str | None, target: str, prompt: str, tmp_path: Path
) -> None:
    line = {"image": "1.jpg", "caption": caption, "label": int(answer == "yes"), "relation": "x"}
    (tmp_path / "v.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (asked,) = VsrBenchmark(questions=tmp_path / "v.jsonl").samples("all")
    assert asked.question == ASKED + caption
    plan = LexiconPlanner().plan(asked)
    assert (plan.target_term, plan.prompt, plan.level) == (target, prompt, "relation")
    assert source is None or plan.source_term == source
    assert plan.target_answer == ("no" if answer == "yes" else "yes")
    assert "statement" not in f"{plan.prompt} {plan.find} {plan.negative_prompt}"


def test_a_caption_that_no_rule_reads_is_refused() -> None:
    for caption in ("The pizza consists of the cake.", "The cat looks happy."):
        with pytest.raises(SampleError, match="no rule reads"):
            LexiconPlanner().plan(replace(sample(), question=ASKED + caption, answer="yes", roles=()))


def test_of_the_captions_of_whatsup_another_one_becomes_true(tmp_path: Path) -> None:
    places = ("on", "under", "to the left of", "to the right of")
    row = {"image_path": "mug_left_of_armchair.jpeg", "caption_options": [f"A mug {place} a armchair" for place in (places[2], *places)]}
    row["caption_options"].pop(3)
    (tmp_path / "w.json").write_text(json.dumps([row]), encoding="utf-8")
    (asked,) = WhatsUpBenchmark("a", questions=tmp_path / "w.json").samples("all")
    boxed = replace(asked, objects=(SceneObject("mug", BOX), SceneObject("armchair", (50, 0, 60, 10))))
    said = dict(zip(asked.options, asked.metadata["options"], strict=True))
    assert said[asked.answer] == "A mug to the left of a armchair"
    drawn = {LexiconPlanner(seed).plan(boxed) for seed in range(30)}
    assert {plan.target_term for plan in drawn} == {"on", "under", "to the right of"}
    for plan in drawn:
        assert plan.source_term == "to the left of"
        assert said[plan.target_answer or ""] == f"A mug {plan.target_term} a armchair"
        assert plan.prompt == f"a mug {plan.target_term} an armchair"
        assert BOX in plan.boxes
    assert LexiconPlanner(3).plan(boxed) == LexiconPlanner(3).plan(boxed)


def test_captions_of_other_things_are_none_to_choose() -> None:
    options = ("A cat on a mat", "A dog on a mat")
    asked = replace(sample(), question="Which?", answer="A", options=("A", "B"), metadata={"options": options}, competitor="B")
    with pytest.raises(SampleError, match="nothing to put in place of 'on'"):
        LexiconPlanner().plan(asked)
