"""Head interventions estimated from gradients, in models where one head is known to be the only one that matters."""

from __future__ import annotations

import numpy as np
import pytest

from tests.heads.scene import Scene
from tests.heads.test_heads_on_a_model import ALL_HEADS, METHODS, one_thread, plant, scene  # noqa: F401
from tests.tracers.support import ANSWER, SHAPE
from tests.tracers.tiny_llava import HEAD_DIM
from vseam_core.api.interfaces import HeadContext
from vseam_core.api.interventions import AnswerScore, Patch, Replace, Run, Site, SiteEdit
from vseam_core.api.types import HeadId
from vseam_core.engine.attribution import estimate

READ = (AnswerScore(ANSWER),)


def estimated(scene, method):  # noqa: F811
    """Base minus replaced for every head, averaged over variants, by one call."""
    given = HeadContext(scene.base, SHAPE, None, scene.donors, scene.means, scene.other)
    groups = [method.interventions([head], given) for head in ALL_HEADS]
    runs = [Run(scene.base, READ, variant.edits, variant.donor) for group in groups for variant in group]
    changes = np.array([one.change for one in estimate(scene.engine, runs)])
    return -changes.reshape(len(ALL_HEADS), -1).mean(1)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("head", [0, 3])
def test_the_planted_head_leads_the_estimates_of_every_operation(layer, head):
    planted = ALL_HEADS.index(HeadId(layer, head))
    made = Scene(plant(layer, head))
    for name, method in METHODS.items():
        effects = np.abs(estimated(made, method))
        assert effects.argmax() == planted, name
        assert np.delete(effects, planted).max() < 1e-9, name


def test_a_small_step_towards_the_donor_has_the_effect_that_the_patch_is_estimated_by(scene):  # noqa: F811
    step, exact, found = 1e-3, [], []
    for head in ALL_HEADS:
        site, part = Site(head.layer, "head_output", head.head), slice(head.head * HEAD_DIM, (head.head + 1) * HEAD_DIM)
        live, given = (scene.sites[prompt.key][head.layer, "z"][:, part] for prompt in (scene.base, scene.other))
        moved = Replace((live + step * (given - live)).numpy().astype(np.float32))
        exact.append(Run(scene.base, READ, (SiteEdit(site, moved),)))
        found.append(Run(scene.base, READ, (SiteEdit(site, Patch()),), scene.other))
    base, *results = [result.answer.logit_diff for result in scene.engine.run([Run(scene.base, READ), *exact])]
    slopes = (np.array(results) - base) / step
    np.testing.assert_allclose([one.change for one in estimate(scene.engine, found)], slopes, atol=0.02 * np.abs(slopes).max())
