"""Letters of a multiple choice question are read from a model's logits: the gold one against the strongest other one, articles aside."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.models import builders
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.api.types import Sample
from vseam_core.datasets.images import BytesImage
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.experiments.encoding import ask
from vseam_core.runs.workspace import LoadedModel
from vseam_plugins.models import llava

LETTERS = ("A", "B", "C", "D")


def sample(gold: str) -> Sample:
    held = io.BytesIO()
    builders.picture(3).save(held, "PNG")
    return Sample(
        identifier=f"s/{gold}", dataset="s", question_id=gold, image_id="1", image=BytesImage(held.getvalue(), "1"), question="What is it?",
        answer=gold, competitor=None, level="object", category="x", pool="test", form="open", options=LETTERS,
        instruction="{question}\nAnswer with the letter.",
    )  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    # A vocabulary of words, the article "a" among them, and the letters.
    with_letters = partial(builders.build_tokenizer, words=(*builders.WORDS, *LETTERS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "build_tokenizer", with_letters)
        folder: Path = builders.build_llava(tmp_path_factory.mktemp("letters") / "llava", seed=5)
    model = llava.load("letters", str(folder), device="cpu")
    return LoadedModel(model, *checked_engine(model, None))


@pytest.mark.parametrize("gold", LETTERS)
def test_logit_diff_of_a_letter_is_that_of_a_plain_forward_pass(loaded: LoadedModel, gold: str) -> None:
    prepared = ask(loaded, sample(gold))
    assert prepared.note == ""
    (result,) = loaded.engine.run([Run(prepared.prompt, (AnswerScore(prepared.answer),))])
    with torch.no_grad():
        logits = loaded.model.module(**dict(prepared.prompt.inputs)).logits[0, -1].double()
    ids = loaded.model.tokenizer.convert_tokens_to_ids(list(LETTERS))  # type: ignore[attr-defined]
    values = dict(zip(LETTERS, logits[ids].tolist(), strict=True))
    strongest = max(value for letter, value in values.items() if letter != gold)
    assert result.answer.logit_diff == pytest.approx(values[gold] - strongest, abs=1e-5)
    assert (result.answer.logit_diff > 0) == (gold == max(values, key=values.__getitem__))
    read = {token for tokens in (prepared.answer.gold, *prepared.answer.competitors) for token in tokens}
    assert read == set(ids), "each letter by its capital; the article is no option"
