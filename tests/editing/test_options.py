"""What an edit makes of a multiple choice question: the letter of the option that is true then."""

from __future__ import annotations

from typing import Any

import pytest

from vseam_core.api.interfaces import EditPlan
from vseam_core.api.types import Sample
from vseam_core.editing.composed import _new_answer
from vseam_core.errors import SampleError


def sample(answer: str, *options: str, **fields: Any) -> Sample:
    image: Any = None
    return Sample(
        identifier="s", dataset="d", question_id="1", image_id="1", image=image, question="Which colour?", answer=answer, level="object",
        category="x", pool="test", form="open", metadata={"options": options}, options=tuple("ABCD"[: len(options)]),
        competitor=fields.get("competitor"),
    )  # fmt: skip


def plan(answer: str | None) -> EditPlan:
    return EditPlan(source_term="red", target_term="blue", prompt="", target_answer=answer)


def test_the_answer_after_an_edit_is_the_letter_of_its_option() -> None:
    asked = sample("A", "red", "Blue.", "green")
    assert _new_answer(asked, plan("blue")) == "B"
    assert _new_answer(asked, plan("C")) == "C"
    assert _new_answer(sample("A", "red", "blue", competitor="B"), plan(None)) == "B"
    assert _new_answer(sample("red"), plan("blue")) == "blue"
    for answer, reason in (("yellow", "is none of the options"), ("red", "would leave the answer"), (None, "does not say what the answer")):
        with pytest.raises(SampleError, match=reason):
            _new_answer(asked, plan(answer))
