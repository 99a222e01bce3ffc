"""Of several competing answers (the other letters of a multiple choice question) the strongest one counts, wherever an answer is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import builders
from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds, AnswerScore, LensScore, Run, Site, SiteEdit, Zero
from vseam_core.api.types import Sample
from vseam_core.engine.attribution import estimate
from vseam_core.engine.readouts import answer_values
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.errors import SampleError
from vseam_core.experiments.encoding import _answer_ids, competitors_of

LETTERS = AnswerIds(gold=(20,), competitor=(21, 22), published=(20,), others=((23,), (24, 25)))
ORDERS = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]


def ordered(order: tuple[int, int, int]) -> AnswerIds:
    """The same competitors in another order."""
    first, *rest = (LETTERS.competitors[place] for place in order)
    return replace(LETTERS, competitor=first, others=tuple(rest))


def test_logit_diff_is_gold_minus_the_strongest_competitor() -> None:
    logits = torch.tensor(np.random.default_rng(3).normal(size=(5, 40)) * 3)
    for row, value in zip(logits.numpy(), answer_values(logits, [LETTERS] * 5), strict=True):
        rivals = [np.log(np.exp(row[list(tokens)]).sum()) for tokens in ((21, 22), (23,), (24, 25))]
        assert value.logit_diff == pytest.approx(row[20] - max(rivals), abs=1e-12)


def test_estimates_and_attributions_are_those_of_the_strongest_competitor_alone(model: VisionLanguageModel) -> None:
    base, engine = model.encode(builders.picture(1), "Is the dog red?"), ReferenceEngine(model)
    alone = [replace(LETTERS, competitor=tokens, others=()) for tokens in LETTERS.competitors]
    values = [engine.run([Run(base, (AnswerScore(answer),))])[0].answer.logit_diff for answer in alone]
    strongest = alone[int(np.argmin(values))]
    edit = (SiteEdit(Site(1, "mlp_output"), Zero(), (base.last,)),)

    def found(answer: AnswerIds) -> tuple[float, ...]:
        lens = LensScore(Site(1, "mlp_output"), answer)
        whole = engine.run([Run(base, (AnswerScore(answer), lens))])[0]
        (estimated,) = estimate(engine, [Run(base, (AnswerScore(answer),), edit)])
        return (whole.answer.logit_diff, whole.readouts[1][0].logit_diff, estimated.base, estimated.change)

    for order in ORDERS:
        assert found(ordered(order)) == pytest.approx(found(strongest), abs=1e-6), order


class Spelling:
    """Answers by a vocabulary of letters: a capital is its code, a small letter too; `answer_ids` takes both as surface variants."""

    def answer_ids(self, prompt: Any, gold: str, competitor: str | None) -> AnswerIds:
        ids = {each: (ord(each), ord(each.lower())) for each in (gold, competitor or gold)}
        return AnswerIds(ids[gold], ids[competitor] if competitor else (), (ord(gold),), variants=(ord(gold.lower()),))

    def token_texts(self, ids: tuple[int, ...]) -> list[str]:
        return [chr(number) for number in ids]


def sample(answer: str, **fields: Any) -> Sample:
    known: dict[str, Any] = {"competitor": None, "form": "open", "level": "object", "category": "x", "pool": "test", **fields}
    return Sample(
        identifier="s", dataset="d", question_id="1", image_id="1", image=None, question="?", answer=answer, **known  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_gold_letter_is_weighed_against_every_other_letter_in_capitals() -> None:
    loaded: Any = type("Loaded", (), {"model": Spelling()})()
    asked = sample("B", options=("A", "B", "C", "D"))
    assert competitors_of(asked) == ("A", "C", "D")
    found = _answer_ids(loaded, None, asked)  # type: ignore[arg-type]
    assert (found.gold, found.competitors, found.variants) == ((66,), ((65,), (67,), (68,)), ())
    assert competitors_of(sample("B", options=("A", "B", "C"), competitor="C")) == ("C",)
    assert competitors_of(sample("yes", form="yes_no")) == ("No",)
    assert competitors_of(sample("blue")) == ()


def test_letters_that_are_not_told_apart_at_one_place_are_a_reason() -> None:
    class Prefixed(Spelling):
        def answer_ids(self, prompt: Any, gold: str, competitor: str | None) -> AnswerIds:
            return replace(super().answer_ids(prompt, gold, competitor), prefix=(1,) if competitor == "C" else ())

    loaded: Any = type("Loaded", (), {"model": Prefixed()})()
    with pytest.raises(SampleError, match="no one token tells 'B' apart from all of A, C"):
        _answer_ids(loaded, None, sample("B", options=("A", "B", "C")))  # type: ignore[arg-type]
