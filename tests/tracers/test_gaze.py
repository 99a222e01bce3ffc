"""The tracer of gaze: eager attention as the truth, a head whose look is planted, and a head that looks everywhere alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vseam_core.api.interventions import AttentionBlock
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError
from vseam_plugins.tracers.gaze import SITES, Gaze
from vseam_plugins.tracers.regions import region_positions

from .support import ANSWER, IMAGE_POSITIONS, SHAPE, context, pair
from .tiny_llava import HEADS, LAYERS, TinyLlava, build, image_prompt

# The edit covers positions 5 and 6 of the 4 × 4 grid.
REGION = (7, 8)


@pytest.fixture(scope="module")
def given():
    prompts = [image_prompt(seed, torch.float32) for seed in (1, 2)]
    return context(*prompts, answer=ANSWER, edit=pair(((8, 8, 24, 16),)))


def read(given, module, change=()):
    tracer, engine = Gaze(), ReferenceEngine(TinyLlava(module))
    runs = [replace(run, interventions=change) for run in tracer.plan(given)]
    return {(one.site_kind, one.direction): one.values for one in tracer.effects(given, engine.run(runs))}


def test_every_reading_is_what_eager_attention_gives(given):
    torch.set_num_threads(1)
    found, eager = read(given, build(torch.float32)), build(torch.float32, "eager")
    region, _, random = region_positions(given)
    assert region == REGION
    assert len(random) == len(region)
    assert not set(random) & set(region)
    for direction, prompt in (("clean", given.clean), ("corrupt", given.corrupt)):
        with torch.no_grad():
            layers = eager(**prompt.inputs, use_cache=False, output_attentions=True).attentions
        weights = np.stack([one[0, :, given.clean.last].numpy() for one in layers])
        on_region, on_random = (weights[:, :, list(positions)].sum(-1) for positions in (region, random))
        even = weights[:, :, list(IMAGE_POSITIONS)].sum(-1) * 2 / 16
        expected = dict(zip(SITES, (on_region, on_region - even, on_region - on_random, on_random - even), strict=True))
        for site, values in expected.items():
            assert found[site, direction].shape == (LAYERS, HEADS)
            np.testing.assert_allclose(found[site, direction], values, atol=1e-5)


def test_a_head_that_can_look_at_nothing_else_of_the_image_is_seen_to_look_there(given):
    """Planted by cutting one head's attention to the rest of the image; another head of its layer is as it was."""
    module = build(torch.float32)
    rest = tuple(position for position in IMAGE_POSITIONS if position not in REGION)
    cut = AttentionBlock((1,), (given.clean.last,), rest, (2,))
    before, after = read(given, module), read(given, module, (cut,))
    assert after["gaze_over_area", "clean"][1, 2] == pytest.approx(after["gaze_region", "clean"][1, 2] * 7 / 8, abs=1e-6)
    assert after["gaze_region", "clean"][1, 2] > before["gaze_region", "clean"][1, 2]
    np.testing.assert_allclose(after["gaze_region", "clean"][1, :2], before["gaze_region", "clean"][1, :2], atol=1e-6)


def test_heads_that_look_everywhere_alike_do_not_look_at_the_region(given):
    module = build(torch.float32)
    with torch.no_grad():
        for layer in module.model.language_model.layers:
            layer.self_attn.q_proj.weight.zero_()
    found = read(given, module)
    np.testing.assert_allclose(found["gaze_region", "clean"], 2 / len(given.clean), atol=1e-6)
    for site in ("gaze_over_area", "gaze_over_random", "gaze_random_over_area"):
        np.testing.assert_allclose(found[site, "corrupt"], 0.0, atol=1e-6)


def test_what_cannot_be_read_is_refused_with_the_reason(given):
    with pytest.raises(UnknownNameError, match="did you mean 'last'"):
        Gaze("lasst")
    with pytest.raises(VseamError, match="coverage is 2"):
        Gaze(coverage=2)
    with pytest.raises(UnsupportedError, match="different numbers of heads"):
        Gaze().plan(replace(given, shape=replace(SHAPE, heads_by_layer=(4, 2, 4))))
