"""The logit lens and attention knockout: which runs are planned, and what their results come to mean."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from vseam_core.api.interventions import AnswerIds, AnswerScore, AttentionBlock, Site
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, VseamError
from vseam_plugins.tracers.knockout import AttentionKnockout
from vseam_plugins.tracers.lens import LogitLens

from .support import IMAGE_POSITIONS, answer_values, context, number, prompt, scripted

QUESTION = (19, 20, 21, 22)
WITHOUT_COMPETITOR = AnswerIds(gold=(5,), competitor=(), published=(5,))


def traced(tracer, given):
    """Effects of a tracer on a scripted engine, by site kind, direction and measure."""
    effects = tracer.effects(given, scripted(tracer.plan(given)))
    return {(effect.site_kind, effect.direction, effect.measure): effect for effect in effects}


def test_the_lens_reads_both_images_in_one_run_each_and_changes_nothing():
    runs = LogitLens().plan(context())
    assert [run.base.key for run in runs] == ["clean", "corrupt"]
    assert all(run.interventions == () for run in runs)
    assert all(isinstance(run.readouts[0], AnswerScore) for run in runs)
    assert len(runs[0].readouts) == 1 + 4 + 3 + 3


def test_lens_values_are_the_readouts_themselves_under_the_image_that_was_read():
    effects = traced(LogitLens(), context())
    for image in ("clean", "corrupt"):
        residual = effects["residual_after", image, "logit_diff"]
        assert residual.layers == (-1, 0, 1, 2)
        assert residual.columns == ("25",)
        assert residual.roles == ("last",)
        assert residual.values[0, 0] == pytest.approx(number("logit_diff", image, Site(0, "residual_before"), 25))
        for layer in range(3):
            expected = number("logit_diff", image, Site(layer, "residual_after"), 25)
            assert residual.values[layer + 1, 0] == pytest.approx(expected)
            expected = number("logit_diff", image, Site(layer, "mlp_output"), 25)
            assert effects["mlp_output", image, "logit_diff"].values[layer, 0] == pytest.approx(expected)
        assert effects["attention_output", image, "logit_diff"].layers == (0, 1, 2)
        assert (residual.clean, residual.corrupt) == (number("logit_diff", "clean"), number("logit_diff", "corrupt"))


def test_components_are_given_linear_measures_only_because_probabilities_do_not_add_up():
    effects = traced(LogitLens(), context())
    assert {measure for kind, _, measure in effects if kind == "residual_after"} == {*("logit_diff", "prob_sum", "logit", "top_token")}
    assert {measure for kind, _, measure in effects if kind != "residual_after"} == {"logit_diff", "logit"}


def test_a_lens_without_linear_measures_reads_no_component():
    tracer = LogitLens(measures=["prob_sum"])
    assert {kind for kind, _, _ in traced(tracer, context())} == {"residual_after"}


def test_the_lens_reads_other_positions_when_asked():
    effect = traced(LogitLens(positions=["question", "last"]), context())["residual_after", "clean", "logit_diff"]
    assert effect.columns == ("19", "20", "21", "22", "25")
    assert effect.roles == ("question", "object", "object", "question", "last")
    assert effect.values.shape == (4, 5)
    assert effect.values[2, 1] == pytest.approx(number("logit_diff", "clean", Site(1, "residual_after"), 20))


def test_the_lens_skips_a_prompt_that_lacks_the_positions():
    bare = [prompt(key, classes=["image"] * 16 + ["question"] * 9 + ["last"]) for key in ("clean", "corrupt")]
    with pytest.raises(SampleError, match="structural_after"):
        LogitLens(positions=["structural_after"]).plan(context(*bare))


def test_lens_options_are_checked_and_reported():
    assert LogitLens(sites="mlp_output").options() == {
        "sites": ["mlp_output"],
        "positions": ["last"],
        "measures": ["logit_diff", "prob_sum", "logit", "top_token"],
    }
    with pytest.raises(UnknownNameError, match="did you mean 'mlp_output'"):
        LogitLens(sites=["mlp_outputs"])


def test_knockout_cuts_every_edge_in_every_layer_and_in_all_layers_of_the_clean_run():
    runs = AttentionKnockout(edges=["last<-image", "question<-image"]).plan(context())
    blocks = [run.interventions[0] for run in runs[2:]]
    assert {run.base.key for run in runs[2:]} == {"clean"}
    assert blocks == [
        *(AttentionBlock((layer,), targets, IMAGE_POSITIONS) for layer in range(3) for targets in ((25,), QUESTION)),
        AttentionBlock((0, 1, 2), (25,), IMAGE_POSITIONS),
        AttentionBlock((0, 1, 2), QUESTION, IMAGE_POSITIONS),
    ]


@pytest.mark.parametrize(("window", "layers"), [(1, [(0,), (1,), (2,)]), (2, [(0,), (0, 1), (1, 2)]), (3, [(0, 1), (0, 1, 2), (1, 2)])])
def test_a_window_lies_around_its_layer_and_is_clipped_at_both_ends(window, layers):
    runs = AttentionKnockout(window=window, edges="last<-image").plan(context())
    assert [run.interventions[0].layers for run in runs[2:]] == [*layers, (0, 1, 2)]


def test_knockout_values_are_cut_minus_clean_with_one_column_per_edge():
    effects = traced(AttentionKnockout(), context())
    windows = effects["attention", "clean", "logit_diff"]
    assert windows.layers == (0, 1, 2)
    assert windows.columns[:2] == ("last<-image", "last<-question")
    assert windows.roles == windows.columns
    block = AttentionBlock((1,), (25,), QUESTION)
    expected = number("logit_diff", "clean", None, (block,)) - number("logit_diff", "clean")
    assert windows.values[1, 1] == pytest.approx(expected, abs=1e-7)
    everywhere = effects["attention_all_layers", "clean", "logit_diff"]
    block = AttentionBlock((0, 1, 2), (25,), QUESTION)
    expected = number("logit_diff", "clean", None, (block,)) - number("logit_diff", "clean")
    assert everywhere.values.shape == (1, 6)
    assert everywhere.values[0, 1] == pytest.approx(expected, abs=1e-7)


def test_several_classes_on_one_end_of_an_edge_are_cut_together():
    runs = AttentionKnockout(edges=["last<-image+structural_after"]).plan(context())
    assert runs[2].interventions[0].sources == (*IMAGE_POSITIONS, 18)


def test_an_edge_without_positions_on_one_end_is_left_out_and_refused_when_no_other_is_left():
    classes = ["image"] * 16 + ["question"] * 9 + ["last"]
    bare = context(*[prompt(key, classes=classes) for key in ("clean", "corrupt")])
    effect = traced(AttentionKnockout(), bare)["attention", "clean", "logit_diff"]
    assert effect.columns == ("last<-image", "last<-question", "question<-image")
    with pytest.raises(UnsupportedError, match="last<-template"):
        AttentionKnockout(edges=["last<-template"]).plan(bare)


@pytest.mark.parametrize("options", [{"edges": ["image->last"]}, {"edges": ["last<-imag"]}, {"window": 0}, {"edges": []}])
def test_a_wrong_knockout_option_is_refused_in_one_line(options):
    with pytest.raises(VseamError) as caught:
        AttentionKnockout(**options)
    assert "\n" not in str(caught.value)


def test_knockout_needs_a_competing_answer_for_logit_diff():
    with pytest.raises(SampleError, match="logit_diff"):
        AttentionKnockout().plan(context(answer=WITHOUT_COMPETITOR))
    found = traced(AttentionKnockout(measures=["logprob"]), context(answer=WITHOUT_COMPETITOR))
    assert set(found) == {("attention", "clean", "logprob"), ("attention_all_layers", "clean", "logprob")}


@pytest.mark.parametrize("tracer", [LogitLens(), AttentionKnockout()])
def test_results_that_do_not_match_the_plan_are_an_error_and_not_misread(tracer):
    results = scripted(tracer.plan(context()))
    with pytest.raises(ValueError, match="planned"):
        tracer.effects(context(), [*results, results[-1]])
    with pytest.raises(ValueError, match="planned"):
        tracer.effects(context(), results[:-1])


def test_the_lens_says_which_token_each_layer_puts_first():
    tracer = LogitLens(sites=["residual_after", "mlp_output"], measures=["top_token", "logit_diff"])
    given = context()
    results = scripted(tracer.plan(given), lambda *what: replace(answer_values(*what), top=zlib.crc32(repr(what).encode()) % 2**20))
    found = {(one.site_kind, one.direction, one.measure): one for one in tracer.effects(given, results)}
    assert set(found) == {(site, image, "logit_diff") for site in ("residual_after", "mlp_output") for image in ("clean", "corrupt")} | {
        ("residual_after", image, "top_token") for image in ("clean", "corrupt")
    }
    tops = [[value.top for value in readout] for readout in results[0].readouts[1 : given.shape.layers + 2]]
    np.testing.assert_array_equal(found["residual_after", "clean", "top_token"].values, tops)
