"""Every tracer through the reference engine, held against full forward passes with plain hooks written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vseam_core.api.interventions import AnswerIds
from vseam_plugins.tracers.groups import GroupPatching
from vseam_plugins.tracers.knockout import EDGES, AttentionKnockout
from vseam_plugins.tracers.lens import LogitLens
from vseam_plugins.tracers.regions import RegionPatching
from vseam_plugins.tracers.tokenwise import TokenwisePatching

from .scene import SITE_NAMES, Scene
from .support import ANSWER, CLASSES, TEXT_POSITIONS, context
from .tiny_llava import HEADS, LAYERS, assert_equal, build, measures, of_head


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scene(one_thread):
    return Scene(build())


def row_site(effect, layer):
    """The hand-written name of the site of one row of residuals, or of a component."""
    return (0, "before") if layer < 0 else (layer, SITE_NAMES[effect.site_kind])


def positions_of(scene, column):
    """The positions of a group by its name, from the list of classes alone."""
    if column == "all":
        return range(len(CLASSES))
    if column == "text_published":
        return range(CLASSES.index("structural_after"), len(CLASSES))
    return [index for index, name in enumerate(CLASSES) if name == column]


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize("site", ["attention_output", "mlp_output", "residual_after"])
def test_tokenwise_patching_equals_plain_hooks(scene, site, direction):
    effects = scene.traced(TokenwisePatching(sites=[site], directions=[direction]))
    for measure in ("logit_diff", "prob_sum", "logit"):
        effect = effects[site, direction, measure]
        expected = [
            [scene.patched(direction, measure, row_site(effect, layer), [position]) for position in TEXT_POSITIONS]
            for layer in range(LAYERS)
        ]
        assert_equal(effect.values, expected)
        assert effect.clean == pytest.approx(scene.base["clean"][measure])
        assert effect.corrupt == pytest.approx(scene.base["corrupt"][measure])


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_group_patching_equals_plain_hooks(scene, direction):
    effect = scene.traced(GroupPatching())["residual_after", direction, "logit_diff"]
    expected = [
        [scene.patched(direction, "logit_diff", row_site(effect, layer), positions_of(scene, column)) for column in effect.columns]
        for layer in effect.layers
    ]
    assert_equal(effect.values, expected)


def test_all_groups_patched_together_give_the_donor_run_exactly_in_every_layer(scene):
    for (_, direction, measure), effect in scene.traced(GroupPatching(groups=["all"])).items():
        gap = scene.base["clean"][measure] - scene.base["corrupt"][measure]
        expected = gap if direction == "denoising" else -gap
        np.testing.assert_allclose(effect.values, expected, rtol=1e-6)


def test_the_image_carries_the_whole_difference_at_the_embeddings_and_the_last_position_after_the_last_layer(scene):
    effect = scene.traced(GroupPatching())["residual_after", "denoising", "logit_diff"]
    values = dict(zip(effect.columns, effect.values.T, strict=True))
    gap = effect.clean - effect.corrupt
    assert values["image"][0] == pytest.approx(gap)
    assert values["image"][-1] == pytest.approx(0, abs=1e-9)
    assert values["text_published"][0] == pytest.approx(0, abs=1e-9)
    assert values["last"][-1] == pytest.approx(gap)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_region_patching_equals_plain_hooks(scene, direction):
    tracer = RegionPatching(directions=[direction])
    regions = [run.interventions[0].positions for run in tracer.plan(scene.context)[2:5]]
    assert regions[0] == (7, 8)
    effect = scene.traced(tracer)["residual_after", direction, "logit_diff"]
    expected = [
        [scene.patched(direction, "logit_diff", row_site(effect, layer), positions) for positions in regions] for layer in effect.layers
    ]
    assert_equal(effect.values, expected)


@pytest.mark.parametrize("window", [1, 2])
def test_attention_knockout_equals_attention_written_out(scene, window):
    effects = scene.traced(AttentionKnockout(window=window))
    ends = [[positions_of(scene, end) for end in edge.split("<-")] for edge in EDGES]
    windows = {1: [[0], [1], [2]], 2: [[0], [0, 1], [1, 2]]}[window]
    found = effects["attention", "clean", "logit_diff"]
    assert found.columns == EDGES
    assert_equal(found.values, [[scene.cut(layers, *edge) for edge in ends] for layers in windows])
    found = effects["attention_all_layers", "clean", "logit_diff"]
    assert_equal(found.values, [scene.cut(range(LAYERS), *edge) for edge in ends])


def test_a_query_that_may_look_nowhere_outputs_zero(scene):
    everything = "+".join(dict.fromkeys(CLASSES))
    effect = scene.traced(AttentionKnockout(edges=[f"last<-{everything}"]))["attention", "clean", "logit_diff"]

    def silence(value):
        changed = value.clone()
        changed[-1] = 0
        return changed

    expected = []
    for layer in range(LAYERS):
        logits = scene.plain.logits(scene.prompts["clean"], {(layer, "attention"): silence})
        expected.append(measures(logits, ANSWER)["logit_diff"] - scene.base["clean"]["logit_diff"])
    assert_equal(effect.values, expected)


def lens_by_hand(scene, image, measure, layer, position):
    """The logit lens: final norm and unembedding of the residual."""
    site = (0, "before") if layer < 0 else (layer, "after")
    language = scene.module.model.language_model
    with torch.no_grad():
        logits = scene.module.lm_head(language.norm(scene.sites[image][site][position]))
    return measures(logits, scene.answer)[measure]


@pytest.mark.parametrize("image", ["clean", "corrupt"])
def test_the_logit_lens_equals_final_norm_and_unembedding_of_the_residual(scene, image):
    effects = scene.traced(LogitLens(positions=["question", "last"]))
    for measure in ("logit_diff", "prob_sum", "logit"):
        effect = effects["residual_after", image, measure]
        expected = [[lens_by_hand(scene, image, measure, layer, int(column)) for column in effect.columns] for layer in effect.layers]
        assert_equal(effect.values, expected)
        assert effect.values[-1, -1] == pytest.approx(scene.base[image][measure], rel=1e-5)


def attribution_by_hand(scene, image, layer, site):
    """The derivative of logit_diff along a component's contribution to the logits, the final norm's scale frozen."""
    residual, component = scene.sites[image][LAYERS - 1, "after"][-1], scene.sites[image][layer, site][-1]
    norm = scene.module.model.language_model.norm
    scale = (residual.square().mean() + norm.variance_epsilon).rsqrt()
    contribution = scene.module.lm_head.weight.detach() @ (norm.weight.detach() * component * scale)
    logits = scene.plain.logits(scene.prompts[image]).requires_grad_()
    gold, competitor = list(scene.answer.gold), list(scene.answer.competitor)
    (torch.logsumexp(logits[gold], 0) - torch.logsumexp(logits[competitor], 0)).backward()
    return float(logits.grad @ contribution)


@pytest.mark.parametrize("image", ["clean", "corrupt"])
@pytest.mark.parametrize("site", ["attention_output", "mlp_output"])
def test_direct_logit_attribution_equals_the_frozen_norm_written_out(scene, site, image):
    effect = scene.traced(LogitLens())[site, image, "logit_diff"]
    assert_equal(effect.values, [attribution_by_hand(scene, image, layer, SITE_NAMES[site]) for layer in range(LAYERS)])


def test_attributions_of_all_components_and_the_embedding_add_up_to_the_logit_difference():
    scene = Scene(build(), answer=AnswerIds(gold=(5,), competitor=(7,), published=(5,)))
    effects = scene.traced(LogitLens())
    embedding = scene.sites["clean"][0, "before"][-1]
    residual = scene.sites["clean"][LAYERS - 1, "after"][-1]
    norm, unembedding = scene.module.model.language_model.norm, scene.module.lm_head.weight.detach()
    normed = norm.weight.detach() * embedding * (residual.square().mean() + norm.variance_epsilon).rsqrt()
    total = float((unembedding[5] - unembedding[7]) @ normed)
    total += sum(float(effects[site, "clean", "logit_diff"].values.sum()) for site in ("attention_output", "mlp_output"))
    assert total == pytest.approx(scene.base["clean"]["logit_diff"], rel=1e-5)


def test_float32_agrees_with_plain_hooks_too():
    scene = Scene(build(torch.float32, attention="eager"), torch.float32)
    effect = scene.traced(TokenwisePatching(sites=["attention_output"]))["attention_output", "denoising", "logit_diff"]
    expected = [
        [scene.patched("denoising", "logit_diff", (layer, "attention"), [position]) for position in TEXT_POSITIONS]
        for layer in range(LAYERS)
    ]
    # The noise of float32 itself is a few 1e-6 here; the median effect is 0.02.
    np.testing.assert_allclose(effect.values, expected, rtol=0, atol=2e-5)


def test_patching_a_run_with_its_own_activations_changes_nothing(scene):
    same = context(scene.prompts["clean"], scene.prompts["clean"])
    for tracer in (TokenwisePatching(), GroupPatching()):
        for effect in tracer.effects(same, scene.engine.run(tracer.plan(same))):
            np.testing.assert_allclose(effect.values, 0, atol=1e-9)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_only_head_that_writes_anything_shows_in_its_layer_at_the_last_position_alone(layer):
    module = build(seed=layer)
    with torch.no_grad():
        for index, block in enumerate(module.model.language_model.layers):
            kept = block.self_attn.o_proj.weight.clone()
            block.self_attn.o_proj.weight.zero_()
            if index == layer:
                of_head(block.self_attn.o_proj.weight, layer % HEADS).copy_(of_head(kept, layer % HEADS))
    scene = Scene(module)
    effect = scene.traced(TokenwisePatching())["attention_output", "denoising", "logit_diff"]
    expected = np.zeros((LAYERS, len(TEXT_POSITIONS)))
    expected[layer, -1] = effect.clean - effect.corrupt
    assert abs(effect.clean - effect.corrupt) > 1e-3
    np.testing.assert_allclose(effect.values, expected, atol=1e-6)
    knockout = scene.traced(AttentionKnockout(edges=["last<-image"]))["attention", "clean", "logit_diff"]
    assert np.flatnonzero(np.abs(knockout.values[:, 0]) > 1e-9).tolist() == [layer]
