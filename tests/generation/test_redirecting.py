"""Redirected heads against attention written out weight by weight; a head planted to say what it looks at; nulls that change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.generation.by_hand import ANSWER, QUESTIONS, Weights, answered, attention_by_hand, context_of, greedy_by_hand, last_logits
from tests.models.builders import build_llava, picture
from vseam_core.api.generation import Branch, BranchedGeneration, GenerationContext
from vseam_core.api.interventions import AttentionWeights, Run
from vseam_core.api.types import Pair, Sample
from vseam_core.engine.attention_boost import _raised
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import Question
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, VseamError
from vseam_plugins.generation.redirecting import AttentionRedirect
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel
from vseam_plugins.tracers.regions import regions_of

BOX, ELSEWHERE = (0.25, 0.25, 0.75, 0.5), (0.25, 0.75, 0.75, 1.0)
HEADS = "L0H1+L1H2+L1H3"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    return hf.load("tiny", str(build_llava(tmp_path_factory.mktemp("llava"), seed=3)), device="cpu")


def looking(share: float, places: Sequence[int], heads: Sequence[int]) -> Weights:
    """Weights that, in these heads, give the places together the share."""

    def weights(head: int, scores: torch.Tensor) -> torch.Tensor:
        plain = scores.softmax(-1)
        given = plain[list(places)].sum()
        if head not in heads or given >= share:
            return plain
        there = torch.zeros(len(plain), dtype=torch.bool)
        there[list(places)] = True
        changed = torch.where(there, plain * share / given, plain * (1 - share) / (1 - given))
        assert float(changed.sum()) == pytest.approx(1, abs=1e-5)
        return changed

    return weights


def test_redirected_heads_generate_what_weights_set_by_hand_say(model: HuggingFaceModel) -> None:
    method = AttentionRedirect(HEADS, share=0.8, box=BOX)
    plain = answered(model, AttentionRedirect(HEADS, share=0.0, box=BOX))
    found = answered(model, method)
    for context, text, difference in (found[0], found[-1]):
        places = context.prompt.image_positions_in([BOX], (1, 1))
        assert len(places) == 2

        def logits(tokens: Sequence[int], context: GenerationContext = context, places: Sequence[int] = places) -> torch.Tensor:
            last = context.prompt.last
            with (
                attention_by_hand(model, [0], last, looking(0.8, places, heads=[1])),
                attention_by_hand(model, [1], last, looking(0.8, places, heads=[2, 3])),
            ):
                return last_logits(model, context.prompt, tokens)

        expected_text, expected = greedy_by_hand(model, logits)
        assert text == expected_text
        assert difference == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert all(abs(one[2] - other[2]) > 1e-2 for one, other in zip(found, plain, strict=True)), "what changes no logit proves nothing"


def test_a_share_that_a_head_gives_already_changes_nothing(model: HuggingFaceModel) -> None:
    context, engine = context_of(model, QUESTIONS[0]), FullPassEngine(model)
    (plain,) = engine.respond([Question(context.prompt, ANSWER)], 3)
    places = context.prompt.image_positions_in([BOX], (1, 1))
    (read,) = engine.run([Run(context.prompt, (), attention=(AttentionWeights(1, (context.prompt.last,)),))])
    given = float(read.attention[0][2, 0, list(places)].sum())
    assert 0.001 < given < 0.9
    assert plain.values is not None

    def difference(share: float) -> float:
        (branch,) = AttentionRedirect("L1H2", share=share, box=BOX).branches(context)
        (found,) = engine.respond([Question(context.prompt, ANSWER, boosts=branch.boosts)], 1)
        assert found.values is not None
        return found.values.logit_diff

    for share in (0.0, given / 2, given):
        assert difference(share) == pytest.approx(plain.values.logit_diff, abs=2e-4)
    assert abs(difference((1 + given) / 2) - plain.values.logit_diff) > 1e-2
    assert model.module.config.get_text_config()._attn_implementation == "sdpa"


def test_a_head_that_says_what_it_looks_at_is_moved_by_the_region_and_by_no_other_place(model: HuggingFaceModel) -> None:
    """Planted: in the last layer, L1H2 writes gold against competitor as far as it looks at one place, and nothing for another place."""
    context, engine = context_of(model, QUESTIONS[0]), FullPassEngine(model)
    layer = model.module.model.language_model.layers[1].self_attn
    seen: list[torch.Tensor] = []
    handle = layer.v_proj.register_forward_hook(lambda *call: seen.append(call[2][0]))
    last_logits(model, context.prompt, [])
    handle.remove()
    region, other = (list(context.prompt.image_positions_in([box], (1, 1))) for box in (BOX, ELSEWHERE))
    own = slice(2 * layer.head_dim, 3 * layer.head_dim)
    values = seen[0][[*region, *other]][:, own].double().numpy()
    reads = np.linalg.lstsq(values, np.array([1.0, 1, 0, 0]), rcond=None)[0]
    rows = model.module.lm_head.weight
    says = ((rows[ANSWER.gold[0]] - rows[ANSWER.competitor[0]]) * model.module.model.language_model.norm.weight).detach()
    kept = layer.o_proj.weight.detach().clone()
    try:
        with torch.no_grad():
            layer.o_proj.weight[:, own] = 20 * says[:, None] * torch.tensor(reads, dtype=torch.float32)[None]

        def moved(heads: str, box: Sequence[float]) -> float:
            branches = [AttentionRedirect(heads, share, box=box).branches(context)[0] for share in (0.95, 0.0)]
            changed, plain = engine.respond([Question(context.prompt, ANSWER, boosts=branch.boosts) for branch in branches], 1)
            assert changed.values is not None
            assert plain.values is not None
            return changed.values.logit_diff - plain.values.logit_diff

        told = moved("L1H2", BOX)
        assert told > 3
        assert moved("L1H2", ELSEWHERE) < told / 4
        assert abs(moved("L1H0", BOX)) < told / 4
    finally:
        with torch.no_grad():
            layer.o_proj.weight.copy_(kept)


def test_what_a_mask_hides_stays_hidden() -> None:
    logits = torch.tensor([[0.3, -1.0, 0.5, 2.0], [0.3, -1.0, 0.5, 2.0]])
    hidden = logits.clone()
    hidden[1, :2] = torch.finfo(torch.float32).min
    hidden[0, 0] = torch.finfo(torch.float32).min
    more = _raised(hidden, [0, 1], 0.75)
    assert more[0, 0] == 0
    assert more[1].tolist() == [0, 0]
    changed = hidden.clone()
    changed[:, :2] += more
    assert float(changed.softmax(-1)[0, :2].sum()) == pytest.approx(0.75, abs=1e-6)
    assert torch.equal(_raised(logits, [3], 0.1), torch.zeros(2, 1, dtype=torch.float64))


class Image:
    def load(self) -> Any:
        return picture(0, (32, 32))


def test_the_region_is_what_was_edited_or_another_place_of_its_size(model: HuggingFaceModel) -> None:
    sample = Sample(
        identifier="toy/1", dataset="toy", question_id="1", image_id="1", image=Image(), question="Is red?", answer="Yes", competitor="No",
        level="object", category="animal", pool="test",
    )  # fmt: skip
    pair = Pair(sample, replace(sample, answer="No"), ((8, 8, 24, 16),), "toy", "red", "blue")
    plain = context_of(model, QUESTIONS[0])
    context = replace(plain, edited=lambda: pair, image=Image().load)
    region, _, random = regions_of(context.prompt, pair, (32, 32), 0)

    def sources(context: GenerationContext, **options: Any) -> tuple[int, ...]:
        (branch,) = AttentionRedirect("L1H2", **options).branches(context)
        return branch.boosts[0].sources

    assert sources(context) == region
    assert sources(context, region="random") == random
    assert not set(region) & set(random)
    assert sources(context, region="image") == context.prompt.positions("image")
    with pytest.raises(UnsupportedError, match="give a box"):
        sources(plain)
    with pytest.raises(UnsupportedError, match="regions need image positions"):
        sources(replace(plain, prompt=replace(plain.prompt, image_boxes=None)), box=BOX)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": ""}, "name heads"),
        ({"heads": "L1"}, "names no head"),
        ({"heads": "L1H2", "share": 1.0}, "from 0 to below 1"),
        ({"heads": "L1H2", "region": "edti"}, "did you mean 'edit'"),
        ({"heads": "L1H2", "box": [0.5, 0.5]}, "four fractions"),
        ({"heads": "L1H2", "box": [0.5, 0.5, 0.4, 1.0]}, "x0 < x1"),
        ({"heads": "L1H2", "region": "box"}, "needs a box"),
        ({"heads": "L1H2", "coverage": 2.0}, "coverage is 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(VseamError, match=said):
        AttentionRedirect(**options)


def test_heads_that_are_not_there_and_boxes_that_no_position_looks_at_are_refused(model: HuggingFaceModel) -> None:
    context = context_of(model, QUESTIONS[0])
    with pytest.raises(UnknownNameError, match="L7H0"):
        AttentionRedirect("L7H0", box=BOX).branches(context)
    nowhere = replace(context.prompt, image_boxes=tuple((0.0, 0.0, 0.0, 0.0) for _ in context.prompt.positions("image")))
    with pytest.raises(SampleError, match="no image position"):
        AttentionRedirect("L1H2", box=BOX).branches(replace(context, prompt=nowhere))


def test_the_first_branch_is_the_question_alone(model: HuggingFaceModel) -> None:
    method: BranchedGeneration = AttentionRedirect(["L1H2", "L1H0", "L1H2"], box=BOX)
    (branch,) = method.branches(context_of(model, QUESTIONS[0]))
    assert isinstance(branch, Branch)
    assert [(change.layers, change.heads) for change in branch.boosts] == [((1,), (0, 2))]
    assert method.options()["heads"] == ["L1H0", "L1H2"]
