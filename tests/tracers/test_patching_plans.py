"""Token-wise, group and region patching: which runs are planned, and what their results come to mean."""

from __future__ import annotations

import numpy as np
import pytest

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import AnswerIds, Patch, Site, SiteEdit
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError
from vseam_plugins.tracers.groups import GroupPatching
from vseam_plugins.tracers.regions import RegionPatching
from vseam_plugins.tracers.tokenwise import TokenwisePatching

from .support import (
    CLASSES,
    IMAGE_POSITIONS,
    ROLES,
    TEXT_POSITIONS,
    context,
    number,
    pair,
    prompt,
    scripted,
)

WITHOUT_COMPETITOR = AnswerIds(gold=(5,), competitor=(), published=(5,))


def traced(tracer, given):
    """Effects of a tracer on a scripted engine, by site kind, direction and measure."""
    effects = tracer.effects(given, scripted(tracer.plan(given)))
    return {(effect.site_kind, effect.direction, effect.measure): effect for effect in effects}


def patched(measure, base, donor, site, positions):
    """The scripted measure of a patched run less that of its base."""
    edit = SiteEdit(site, Patch(), positions)
    return number(measure, base, donor, (edit,)) - number(measure, base)


def test_tokenwise_patching_plans_one_run_per_direction_site_layer_and_text_position():
    runs = TokenwisePatching().plan(context())
    assert len(runs) == 2 + 2 * 2 * 3 * len(TEXT_POSITIONS)
    assert [run.interventions for run in runs[:2]] == [(), ()]
    cells = {(run.base.key, run.interventions[0].site, run.interventions[0].positions) for run in runs[2:]}
    assert len(cells) == len(runs) - 2
    assert {len(run.interventions[0].positions) for run in runs[2:]} == {1}


@pytest.mark.parametrize(("direction", "base", "donor"), [("denoising", "corrupt", "clean"), ("noising", "clean", "corrupt")])
def test_every_tokenwise_value_is_the_patched_measure_minus_the_base_measure(direction, base, donor):
    kinds = ("attention_output", "mlp_output", "cross_attention_output")
    effects = traced(TokenwisePatching(kinds), context())
    for kind in kinds:
        for measure in ("logit_diff", "prob_sum", "logit"):
            effect = effects[kind, direction, measure]
            assert effect.values.shape == (3, len(TEXT_POSITIONS))
            assert effect.values.dtype == np.float32
            for row, layer in enumerate(effect.layers):
                for column, position in enumerate(TEXT_POSITIONS):
                    expected = patched(measure, base, donor, Site(layer, kind), (position,))
                    assert effect.values[row, column] == pytest.approx(expected, abs=1e-7)


def test_tokenwise_columns_are_position_indices_with_the_role_or_class_of_each():
    effect = traced(TokenwisePatching(), context())["mlp_output", "denoising", "logit_diff"]
    assert effect.columns == tuple(str(position) for position in TEXT_POSITIONS)
    assert effect.roles == tuple(ROLES[position] or CLASSES[position] for position in TEXT_POSITIONS)
    assert "object" in effect.roles
    assert effect.column_kind == "position"


def test_tokenwise_patching_takes_image_positions_where_they_are_asked_for_and_changes_no_other_studys_identity():
    tracer = TokenwisePatching(positions=["image"])
    effect = traced(tracer, context())["mlp_output", "noising", "logit_diff"]
    assert effect.columns == tuple(map(str, IMAGE_POSITIONS))
    assert set(effect.roles) == {"image"}
    expected = patched("logit_diff", "clean", "corrupt", Site(1, "mlp_output"), (IMAGE_POSITIONS[1],))
    assert effect.values[1, 1] == pytest.approx(expected, abs=1e-7)
    assert tracer.options()["positions"] == ["image"]
    assert "positions" not in TokenwisePatching().options()
    with pytest.raises(UnknownNameError, match="did you mean 'image'"):
        TokenwisePatching(positions=["imgae"])


def test_effects_carry_the_measure_without_any_patch_on_both_images():
    for effect in traced(TokenwisePatching(), context()).values():
        assert effect.clean == number(effect.measure, "clean")
        assert effect.corrupt == number(effect.measure, "corrupt")


def test_options_limit_sites_directions_and_measures_and_are_reported_for_the_identity_of_a_unit():
    tracer = TokenwisePatching(sites=["residual_after"], directions=["noising"], measures="logprob")
    assert list(traced(tracer, context())) == [("residual_after", "noising", "logprob")]
    assert tracer.options() == {"sites": ["residual_after"], "directions": ["noising"], "measures": ["logprob"]}
    assert tracer.options() != TokenwisePatching().options()


def test_the_order_in_which_options_are_written_changes_nothing():
    backwards = TokenwisePatching(sites=("mlp_output", "attention_output"), directions=("noising", "denoising"))
    assert backwards.options() == TokenwisePatching().options()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"sites": ["atention_output"]}, "did you mean 'attention_output'"),
        ({"directions": ["forward"]}, "unknown direction 'forward'"),
        ({"measures": []}, "no measure chosen"),
    ],
)
def test_a_wrong_option_is_refused_with_what_could_have_been_meant(options, hint):
    with pytest.raises(UnknownNameError, match=hint):
        TokenwisePatching(**options)


def test_a_pair_whose_prompts_differ_in_a_token_is_skipped():
    other = prompt("corrupt", classes=CLASSES[:-1], roles=ROLES[:-1])
    for tracer in (TokenwisePatching(), GroupPatching(), RegionPatching()):
        with pytest.raises(SampleError, match="toy/score/plain/7"):
            tracer.plan(context(corrupt=other))


def test_without_a_competing_answer_logit_diff_is_left_out_and_never_nan():
    given = context(answer=WITHOUT_COMPETITOR)
    assert {measure for _, _, measure in traced(TokenwisePatching(), given)} == {"prob_sum", "logit"}
    with pytest.raises(SampleError, match="logit_diff"):
        TokenwisePatching(measures=["logit_diff"]).plan(given)


def test_results_that_do_not_match_the_plan_are_an_error_and_not_misread():
    given = context()
    for tracer in (TokenwisePatching(), GroupPatching(), RegionPatching()):
        results = scripted(tracer.plan(given))
        with pytest.raises(ValueError, match="planned"):
            tracer.effects(given, results[:-1])
        with pytest.raises(ValueError, match="planned"):
            tracer.effects(given, [*results, results[-1]])


def test_group_rows_are_the_embeddings_and_then_every_layer():
    effect = traced(GroupPatching(), context())["residual_after", "denoising", "logit_diff"]
    assert effect.layers == (-1, 0, 1, 2)
    column = effect.columns.index("image")
    sites = [Site(0, "residual_before"), *(Site(layer, "residual_after") for layer in range(3))]
    for row, site in enumerate(sites):
        expected = patched("logit_diff", "corrupt", "clean", site, IMAGE_POSITIONS)
        assert effect.values[row, column] == pytest.approx(expected, abs=1e-7)


def test_groups_hold_the_positions_that_their_names_say():
    runs = GroupPatching(directions=["denoising"]).plan(context())
    effect = traced(GroupPatching(), context())["residual_after", "denoising", "logit_diff"]
    found = dict(zip(effect.columns, (run.interventions[0].positions for run in runs[2:]), strict=False))
    assert found == {
        "image": IMAGE_POSITIONS,
        "question": (19, 20, 21, 22),
        "template": (1, 23, 24),
        "last": (25,),
        "structural_before": (0,),
        "structural_after": (18,),
        "text_published": tuple(range(18, 26)),
        "all": tuple(range(26)),
    }
    assert effect.column_kind == "group"
    assert effect.roles == effect.columns


def test_a_group_without_positions_is_left_out():
    classes = ["image"] * 16 + ["question"] * 9 + ["last"]
    bare = [prompt(key, classes=classes) for key in ("clean", "corrupt")]
    effect = traced(GroupPatching(), context(*bare))["residual_after", "denoising", "logit_diff"]
    assert effect.columns == ("image", "question", "last", "text_published", "all")


def test_group_patching_is_refused_where_the_image_has_no_positions():
    bare = [prompt(key, boxes=False, classes=["question"] * 25 + ["last"]) for key in ("clean", "corrupt")]
    with pytest.raises(UnsupportedError, match="image positions"):
        GroupPatching().plan(context(*bare))


def test_the_edited_region_is_the_image_positions_under_the_boxes_and_the_complement_is_the_rest():
    runs = RegionPatching(directions=["denoising"]).plan(context())
    region, complement, random = (run.interventions[0].positions for run in runs[2:5])
    assert region == (2 + 5, 2 + 6)
    assert sorted(region + complement) == list(IMAGE_POSITIONS)
    assert len(random) == len(region)
    assert set(random) <= set(complement)


def test_region_effects_have_three_columns_by_name():
    effect = traced(RegionPatching(), context())["residual_after", "noising", "logit_diff"]
    assert effect.columns == ("region", "complement", "random")
    assert effect.layers == (-1, 0, 1, 2)
    expected = patched("logit_diff", "clean", "corrupt", Site(2, "residual_after"), (7, 8))
    assert effect.values[3, 0] == pytest.approx(expected, abs=1e-7)


def test_the_random_region_depends_on_seed_and_pair_only():
    def drawn(seed=0, question="7"):
        runs = RegionPatching(directions=["denoising"]).plan(context(edit=pair(question=question), seed=seed))
        return runs[4].interventions[0].positions

    assert drawn() == drawn()
    assert len({drawn(seed=seed) for seed in range(20)}) > 5
    assert len({drawn(question=str(question)) for question in range(20)}) > 5


def test_the_random_region_is_compact_and_outside_the_edited_one():
    edit = pair(boxes=((8, 8, 24, 24),))
    for seed in range(40):
        runs = RegionPatching(directions=["denoising"]).plan(context(edit=edit, seed=seed))
        region, _, random = (set(run.interventions[0].positions) for run in runs[2:5])
        assert len(random) == len(region) == 4
        assert not random & region
        # Four scattered cells of a 4 × 4 grid often reach from edge to edge in both ways; a compact region never does.
        rows, columns = zip(*[divmod(position - 2, 4) for position in random], strict=True)
        assert not (set(rows) >= {0, 3} and set(columns) >= {0, 3})


def test_a_region_that_leaves_too_little_room_shares_some_positions_with_the_random_one():
    runs = RegionPatching(directions=["denoising"]).plan(context(edit=pair(boxes=((0, 0, 32, 24),))))
    region, complement, random = (run.interventions[0].positions for run in runs[2:5])
    assert (len(region), len(complement), len(random)) == (12, 4, 12)
    assert set(complement) <= set(random)


@pytest.mark.parametrize("boxes", [(), ((0, 0, 32, 32),)])
def test_a_pair_without_a_region_or_without_a_complement_is_skipped_with_the_reason(boxes):
    with pytest.raises(SampleError, match="region patching needs a part of the image"):
        RegionPatching().plan(context(edit=pair(boxes=boxes)))


def test_region_patching_is_refused_where_image_positions_have_no_place():
    with pytest.raises(UnsupportedError, match="Q-Former"):
        RegionPatching().plan(context(prompt("clean", boxes=False), prompt("corrupt", boxes=False)))


def test_the_sites_lie_in_the_stack_that_the_model_has():
    given = context(shape=ModelShape(3, 4, 8, stack="encoder"))
    for tracer in (TokenwisePatching(), GroupPatching(), RegionPatching()):
        assert {run.interventions[0].site.stack for run in tracer.plan(given)[2:]} == {"encoder"}
