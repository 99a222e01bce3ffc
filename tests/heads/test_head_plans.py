"""Head interventions: which edits are planned from which references, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tracers.support import CLASSES, ROLES, SHAPE, prompt
from vseam_core.api import interventions
from vseam_core.api.interfaces import HeadContext, Needs
from vseam_core.api.interventions import Site, SiteEdit
from vseam_core.api.types import HeadId
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, VseamError
from vseam_plugins.heads.ablation import DatasetMean, MeanOfOthers, PatchFromPair, Resample, Zero
from vseam_plugins.heads.rescaling import Scale

HEADS = (HeadId(0, 1), HeadId(2, 3), HeadId(0, 2))
POSITIONS = (2, 5, 25)
DONORS = tuple(prompt(f"donor{index}") for index in range(7))
MEANS = {layer: np.random.default_rng(layer).normal(size=(len(CLASSES), SHAPE.heads, SHAPE.head_dim)) for layer in range(SHAPE.layers)}


def context(positions=POSITIONS, **given):
    """What a head intervention is given about one sample."""
    return HeadContext(prompt("base"), SHAPE, positions, **given)


def edits(operation, heads=HEADS, positions=POSITIONS):
    """The edits of some heads, all by one operation."""
    return tuple(SiteEdit(Site(head.layer, "head_output", head.head), operation, positions) for head in heads)


@pytest.mark.parametrize(("method", "operation"), [(Zero(), interventions.Zero()), (MeanOfOthers(), interventions.MeanOfOthers())])
@pytest.mark.parametrize("positions", [POSITIONS, None])
def test_all_heads_of_a_set_are_edited_in_one_run_at_the_positions_of_the_context(method, operation, positions):
    (variant,) = method.interventions(HEADS, context(positions))
    assert variant.edits == edits(operation, positions=positions)
    assert variant.donor is None
    assert method.needs() == Needs()


def test_resampling_makes_one_variant_per_donor_in_order():
    variants = Resample(donors=3).interventions(HEADS, context(donors=DONORS))
    assert [variant.donor for variant in variants] == list(DONORS[:3])
    assert {variant.edits for variant in variants} == {edits(interventions.Patch())}
    assert Resample().needs() == Needs(donors=5)
    assert Resample(donors=3).options() == {"donors": 3}


def test_resampling_never_takes_the_sample_itself_or_another_template():
    other_roles = prompt("roles", roles=("",) * len(ROLES))
    shorter = prompt("shorter", classes=CLASSES[1:], roles=ROLES[1:])
    donors = (prompt("base"), DONORS[0], other_roles, DONORS[1], shorter)
    variants = Resample(donors=2).interventions(HEADS, context(donors=donors))
    assert [variant.donor for variant in variants] == [DONORS[0], DONORS[1]]
    with pytest.raises(SampleError, match=r"3 donors .* are needed, 2 of 5 fit"):
        Resample(donors=3).interventions(HEADS, context(donors=donors))


def test_resampling_needs_at_least_one_donor():
    with pytest.raises(VseamError, match="at least 1"):
        Resample(donors=0)


@pytest.mark.parametrize("positions", [POSITIONS, None])
def test_dataset_means_are_those_of_the_head_at_the_edited_positions(positions):
    (variant,) = DatasetMean().interventions(HEADS, context(positions, means=MEANS))
    for head, edit in zip(HEADS, variant.edits, strict=True):
        chosen = list(positions) if positions else slice(None)
        assert edit.site == Site(head.layer, "head_output", head.head)
        assert edit.positions == positions
        assert edit.operation.values.dtype == np.float32
        np.testing.assert_allclose(edit.operation.values, MEANS[head.layer][chosen, head.head], rtol=1e-6)
    assert DatasetMean().needs() == Needs(means=True)


@pytest.mark.parametrize("means", [None, {0: MEANS[0]}, {layer: mean[1:] for layer, mean in MEANS.items()}])
def test_missing_or_misshapen_means_are_an_error(means):
    with pytest.raises(ValueError, match=r"means \(26, 4, 8\)"):
        DatasetMean().interventions(HEADS, context(means=means))


def test_patching_takes_the_other_image_of_the_pair():
    other = prompt("other")
    (variant,) = PatchFromPair().interventions(HEADS, context(other=other))
    assert variant.donor is other
    assert variant.edits == edits(interventions.Patch())
    assert PatchFromPair().needs() == Needs(pair=True)


def test_patching_without_a_comparable_other_image_skips_the_sample():
    with pytest.raises(SampleError, match="no other image"):
        PatchFromPair().interventions(HEADS, context())
    with pytest.raises(SampleError, match="differ in their tokens"):
        PatchFromPair().interventions(HEADS, context(other=prompt("other", classes=CLASSES[1:], roles=ROLES[1:])))


def test_a_mean_of_others_needs_a_head_outside_the_set():
    whole_layer = [HeadId(1, head) for head in range(SHAPE.heads)]
    with pytest.raises(UnsupportedError, match="every head of layer 1"):
        MeanOfOthers().interventions([HeadId(0, 0), *whole_layer], context())
    (variant,) = MeanOfOthers().interventions(whole_layer[1:], context())
    assert len(variant.edits) == SHAPE.heads - 1


def test_each_head_is_scaled_by_its_own_factor():
    factors = {HeadId(0, 1): 0.5, HeadId(2, 3): 2.0, HeadId(0, 2): 1.25, HeadId(1, 1): 0.0}
    (variant,) = Scale(factors).interventions(HEADS, context(None))
    assert [edit.operation.factor for edit in variant.edits] == [0.5, 2.0, 1.25]
    assert [edit.site for edit in variant.edits] == [Site(head.layer, "head_output", head.head) for head in HEADS]
    assert Scale({str(head): factor for head, factor in factors.items()}).factors == factors
    assert Scale(factors).options() == {"factors": {"L0H1": 0.5, "L0H2": 1.25, "L1H1": 0.0, "L2H3": 2.0}}


def test_scaling_a_head_without_a_factor_is_refused_and_not_passed_over():
    with pytest.raises(UnknownNameError, match="L2H3, L0H2"):
        Scale({"L0H1": 0.5}).interventions(HEADS, context())


@pytest.mark.parametrize(("factors", "reason"), [({"head3": 1.0}, "names no head"), ({"L0H1": float("nan")}, "finite")])
def test_a_wrong_factor_is_refused(factors, reason):
    with pytest.raises(VseamError, match=reason):
        Scale(factors)


def test_a_head_of_another_stack_is_written_with_its_stack():
    assert Scale({"encoder:L1H2": 0.5}).factors == {HeadId(1, 2, "encoder"): 0.5}


METHODS = [
    Zero(),
    MeanOfOthers(),
    DatasetMean(),
    Resample(),
    PatchFromPair(),
    Scale({HeadId(9, 0): 1, HeadId(0, 9): 1, HeadId(0, 0, "encoder"): 1}),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("head", [HeadId(9, 0), HeadId(0, 9), HeadId(0, 0, "encoder")], ids=str)
def test_a_head_that_the_model_does_not_have_is_refused_by_name(method, head):
    given = context(donors=DONORS, means=MEANS, other=prompt("other"))
    with pytest.raises(UnknownNameError, match=f"head {head} does not exist"):
        method.interventions([head], given)


def test_a_head_that_is_named_twice_is_edited_once():
    (variant,) = Zero().interventions([HeadId(1, 1), HeadId(1, 1)], context())
    assert len(variant.edits) == 1
