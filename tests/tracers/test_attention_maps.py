"""The tracer of attention maps, held against the library's own eager weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.families import TinyVLM
from vseam_core.api.contexts import ModelShape
from vseam_core.api.presentation import Presentation
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.errors import UnknownNameError, UnsupportedError
from vseam_plugins.tracers.attention_maps import AttentionMaps

from .support import ANSWER, context
from .tiny_llava import HEADS, LAYERS, TinyLlava, build, image_prompt


@pytest.fixture(scope="module")
def scene():
    torch.set_num_threads(1)
    module, prompts = build(torch.float32), {name: image_prompt(seed, torch.float32) for seed, name in ((1, "clean"), (2, "corrupt"))}
    weights = {}
    eager = build(torch.float32, "eager")
    for name, prompt in prompts.items():
        with torch.no_grad():
            found = eager(**TinyLlava(eager).collate([prompt]), use_cache=False, output_attentions=True).attentions
        weights[name] = np.stack([one[0].numpy() for one in found])
    return ReferenceEngine(TinyLlava(module)), context(prompts["clean"], prompts["corrupt"], answer=ANSWER), weights


def effects(scene, **options):
    engine, given, _ = scene
    tracer = AttentionMaps(**options)
    return {(one.site_kind, one.direction): one for one in tracer.effects(given, engine.run(tracer.plan(given)))}


def test_every_head_of_every_layer_has_the_weights_that_eager_attention_gives(scene):
    found, (_, given, truth) = effects(scene, detail="heads"), scene
    assert len(found) == 2 * (1 + HEADS)
    last = given.clean.last
    for image in ("clean", "corrupt"):
        for head in range(HEADS):
            one = found[f"attention_from_last_head_{head}", image]
            assert one.values.shape == (LAYERS, len(given.clean))
            assert (one.measure, one.column_kind) == ("weight", "position")
            np.testing.assert_allclose(one.values, truth[image][:, head, last], atol=1e-5)
        np.testing.assert_allclose(found["attention_from_last", image].values, truth[image][:, :, last].mean(1), atol=1e-5)


def test_groups_are_sums_over_positions_that_add_up_to_one(scene):
    found, (_, given, truth) = effects(scene, targets=["question", "last"]), scene
    assert set(found) == {(f"attention_from_{name}", image) for name in ("question", "last") for image in ("clean", "corrupt")}
    one = found["attention_from_question", "corrupt"]
    np.testing.assert_allclose(one.values.sum(1), 1.0, atol=1e-5)
    asked = list(given.clean.positions("question"))
    image = list(given.clean.positions("image"))
    expected = truth["corrupt"][:, :, asked][..., image].sum(-1).mean((1, 2))
    np.testing.assert_allclose(one.values[:, one.columns.index("image")], expected, atol=1e-5)


def test_sums_are_shown_as_readings_and_positions_as_maps():
    assert AttentionMaps().presentation().view == "readout"
    assert AttentionMaps(detail="positions").presentation().view == "map"
    assert isinstance(AttentionMaps(detail="heads").presentation(), Presentation)


@pytest.mark.parametrize("options", [{"detail": "head"}, {"targets": ["lasst"]}])
def test_an_unknown_option_says_what_there_is(options):
    with pytest.raises(UnknownNameError, match=r"did you mean '(heads|last)'"):
        AttentionMaps(**options)


def test_in_a_model_of_several_kinds_of_layers_those_that_attend_are_read_and_keep_their_numbers():
    torch.set_num_threads(1)
    model, eager = TinyVLM("qwen3_5", "sdpa"), TinyVLM("qwen3_5", "eager")
    engine = ReferenceEngine(model)
    clean, corrupt = (model.prompt(seed, (20, 21, 22, 23)) for seed in (1, 2))
    given = context(clean, corrupt, answer=ANSWER, shape=engine.shape)
    attending = tuple(index for index, layer in enumerate(engine.decoder.layers) if hasattr(layer.module, "self_attn"))
    assert 0 < len(attending) < engine.shape.layers
    tracer = AttentionMaps(detail="heads")
    found = {(one.site_kind, one.direction): one for one in tracer.effects(given, engine.run(tracer.plan(given)))}
    with torch.no_grad():
        weights = eager.module(**eager.collate([clean]), use_cache=False, output_attentions=True).attentions
    truth = dict(zip(attending, (one for one in weights if one is not None), strict=True))
    assert len(found) == 2 * (1 + truth[attending[0]].shape[1])
    for head in range(truth[attending[0]].shape[1]):
        one = found[f"attention_from_last_head_{head}", "clean"]
        assert one.layers == attending
        for row, layer in enumerate(attending):
            np.testing.assert_allclose(one.values[row], truth[layer][0, head, -1].numpy(), atol=1e-5)


def test_a_model_without_attention_between_positions_is_refused_with_the_reason():
    given = context(shape=ModelShape(2, 4, 8, without_attention=(0, 1)))
    with pytest.raises(UnsupportedError, match="no layer of this model has any"):
        AttentionMaps().plan(given)
