"""A head rescaling folded into W_O: the same model as scaling in every run, an ordinary checkpoint, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from tests.tracers.support import ANSWER, SHAPE
from tests.tracers.tiny_llava import PlainModel, TinyLlava, build, image_prompt
from vseam_core.api.interfaces import HeadContext
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.api.types import HeadId
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.errors import UnknownNameError, UnsupportedError
from vseam_plugins.heads.rescaling import Scale, fold_into_weights

SCALES = {HeadId(0, 1): 0.0, HeadId(0, 2): 1.7, HeadId(2, 3): 0.4, HeadId(1, 0): -1.0}


@pytest.fixture
def model():
    torch.set_num_threads(1)
    return TinyLlava(build())


def weights(model):
    """A copy of every parameter."""
    return {name: parameter.detach().clone() for name, parameter in model.module.named_parameters()}


def score(model, interventions=()):
    """The answer of a sample under some interventions."""
    return ReferenceEngine(model).run([Run(image_prompt(1), (AnswerScore(ANSWER),), interventions)])[0].answer


def test_folding_equals_scaling_at_all_positions_and_changes_the_answer(model):
    (variant,) = Scale(SCALES).interventions(list(SCALES), HeadContext(image_prompt(1), SHAPE))
    plain, scaled = score(model), score(model, variant.edits)
    with fold_into_weights(model, SCALES):
        folded = score(model)
    assert folded.logit_diff == pytest.approx(scaled.logit_diff, rel=1e-9)
    assert folded.logprob == pytest.approx(scaled.logprob, rel=1e-9)
    assert abs(folded.logit_diff - plain.logit_diff) > 0.1


def test_only_the_columns_of_the_named_heads_are_multiplied(model):
    before = weights(model)
    with fold_into_weights(model, {"L1H2": 0.5}) as module:
        after = weights(model)
        assert module is model.module
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["model.language_model.layers.1.self_attn.o_proj.weight"]
    columns = (before[changed[0]] != after[changed[0]]).any(0).nonzero().flatten().tolist()
    assert columns == list(range(2 * SHAPE.head_dim, 3 * SHAPE.head_dim))
    torch.testing.assert_close(after[changed[0]][:, columns], before[changed[0]][:, columns] * 0.5)


@pytest.mark.parametrize("failure", [None, RuntimeError])
def test_every_weight_is_back_bit_for_bit_whatever_happened_inside(model, failure):
    before = weights(model)
    try:
        with fold_into_weights(model, SCALES):
            if failure:
                raise failure
    except RuntimeError:
        pass
    assert all(torch.equal(before[name], parameter) for name, parameter in weights(model).items())


def test_a_folded_model_saves_as_an_ordinary_checkpoint(model, tmp_path):
    with fold_into_weights(model, SCALES) as module:
        module.save_pretrained(tmp_path)
        expected = PlainModel(module).logits(image_prompt(1))
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(PlainModel(loaded).logits(image_prompt(1)), expected)


@pytest.mark.parametrize("head", [HeadId(3, 0), HeadId(0, 4), HeadId(0, 0, "encoder")], ids=str)
def test_a_head_that_does_not_exist_is_refused_before_any_weight_is_touched(model, head):
    before = weights(model)
    with pytest.raises(UnknownNameError, match="does not exist"), fold_into_weights(model, {HeadId(0, 0): 2.0, head: 2.0}):
        pass
    assert all(torch.equal(before[name], parameter) for name, parameter in weights(model).items())


class Packed(nn.Module):
    """An output projection whose weight is not a plain matrix, as quantised layers are."""

    def __init__(self, width):
        super().__init__()
        self.in_features = width
        self.weight = nn.Parameter(torch.zeros(width, width, dtype=torch.int8), requires_grad=False)


def test_quantised_weights_are_refused_with_what_to_do(model):
    model.module.model.language_model.layers[1].self_attn.o_proj = Packed(SHAPE.heads * SHAPE.head_dim)
    with pytest.raises(UnsupportedError, match="unquantised"), fold_into_weights(model, {HeadId(1, 0): 2.0}):
        pass
