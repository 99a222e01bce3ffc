"""A study on a model whose layers differ in heads: three layers carry a state and have six, one has attention and four."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.experiments.conftest import small_study
from tests.models import builders
from vseam_core.analysis.head_sets import matched_random_sets
from vseam_core.analysis.heads import ABSENT
from vseam_core.analysis.rescaling import Setting, shuffled_within_layers
from vseam_core.analysis.screening import score_verified_heads
from vseam_core.analysis.shared import overlap_null
from vseam_core.api.contexts import ModelShape
from vseam_core.api.types import HeadId
from vseam_core.config.study import HeadScan, Sizes
from vseam_core.errors import UnknownNameError
from vseam_core.experiments.ablation import head_norms, most_passes, plan_conditions
from vseam_core.experiments.heads.donors_and_means import reference_set
from vseam_core.experiments.heads.scanning import all_heads
from vseam_core.experiments.rescaling.candidates import Candidate, shuffles
from vseam_core.experiments.study.run import run_study
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.workspace import Workspace, open_workspace

COUNTS = (6, 6, 4, 6)
EXISTS = np.array([[head < count for head in range(6)] for count in COUNTS])
SIZES = Sizes(
    pairs=1, random_model_pairs=0, score=12, hard=0, scan_sampled=8, scan_wrong=2, choose=4, test=4, ablation=2, random_sets=3, reference=8
)  # fmt: skip


def _text(vocabulary: int) -> dict[str, Any]:
    return {
        **builders.text_config(vocabulary), "model_type": "qwen3_5_text", "num_hidden_layers": 4, "head_dim": 8, "num_key_value_heads": 2,
        "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 6, "linear_key_head_dim": 8, "linear_value_head_dim": 4,
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, StudyMaterial, str]]:
    torch.set_num_threads(1)
    folder: Path = builders.build_llava(tmp_path_factory.mktemp("unequal") / "llava", seed=3, text=_text)
    study = small_study(
        models=[str(folder)],
        datasets=["scenes/color", "scenes/action"],
        tracers=[],
        heads=[HeadScan(operation="zero"), HeadScan(operation="dataset_mean", method="screen", screen_top=5)],
        sizes=SIZES,
    )
    with open_workspace(tmp_path_factory.mktemp("study") / "results.db") as workspace:
        yield workspace, run_study(workspace, study), str(folder)


def test_only_heads_that_there_are_are_scanned_scored_and_drawn(finished: tuple[Workspace, StudyMaterial, str]) -> None:
    workspace, material, model = finished
    engine = workspace.model(model).engine
    assert type(engine).__name__ == "ReplayEngine"
    assert engine.shape.heads_by_layer == COUNTS
    assert len(all_heads(engine.shape)) == sum(COUNTS)
    assert {one.operation for one in material.heads} == {"zero", "dataset_mean"}
    for one in material.heads:
        assert (one.claims.exists == EXISTS).all()
        signed = one.claims.map("signed")
        assert signed is not None
        run = np.isfinite(signed)
        assert (run == EXISTS).all() if one.operation == "zero" else (5 < run.sum() < EXISTS.sum() and not run[~EXISTS].any())
    assert material.screenings is not None
    assert set(material.screenings["heads"]) == {EXISTS.sum()}
    assert closing_tables(material)


def test_sets_to_ablate_and_factors_to_shuffle_hold_only_heads_that_there_are(finished: tuple[Workspace, StudyMaterial, str]) -> None:
    workspace, _, model = finished
    references = reference_set(workspace, model, "scenes/color", 4)
    assert (np.isfinite(head_norms(references)) == EXISTS).all()
    selected = [HeadId(2, 1), HeadId(0, 5)]
    conditions = plan_conditions(references, selected, 20, 0)
    assert len({condition.heads for condition in conditions if condition.name == "random"}) == 20
    assert all(EXISTS[head.layer, head.head] for condition in conditions for head in condition.heads)
    # Three variants of each set but the empty one; the conditions are one unit, which runs the unchanged model besides.
    assert most_passes(len(selected), 20, variants=3) == 3 * (len(conditions) - 1) + 1 + 1
    assert {len(condition.heads) for condition in conditions if condition.name == "faithfulness"} == {sum(COUNTS) - 2}
    candidate = Candidate("fitted", Setting(1.0, 2), {HeadId(2, 1): 1.5, HeadId(0, 5): 0.5})
    dealt = shuffles(candidate, references.engine.shape, 20, 0)
    assert all(EXISTS[head.layer, head.head] for one in dealt for head in one.factors)


def test_scores_say_of_a_head_that_there_is_not_that_there_is_none_and_correct_over_the_others() -> None:
    generator = np.random.default_rng(0)
    effects = generator.normal(0.5, 1.0, (40, 4, 6))
    effects[:, ~EXISTS] = np.nan
    arguments = (np.ones(40), np.arange(40) % 3 > 0, np.arange(40) % 2 == 0, np.arange(40))
    scores = score_verified_heads(effects, *arguments, measure="logit_diff", seed=0, exists=EXISTS)
    assert (scores.exists == EXISTS).all()
    assert set(scores.frame.loc[~EXISTS.ravel(), "reason"]) == {ABSENT}
    alone = score_verified_heads(effects[:, EXISTS][:, None], *arguments, measure="logit_diff", seed=0)
    assert scores.frame.loc[EXISTS.ravel(), "q_positive"].tolist() == alone.frame["q_positive"].tolist()


def test_random_sets_shuffles_and_overlaps_keep_to_the_heads_that_there_are() -> None:
    sets = matched_random_sets([HeadId(2, 0), HeadId(0, 5)], np.arange(24.0).reshape(4, 6), 99, 0, EXISTS).sets
    assert sets
    assert all(EXISTS[head.layer, head.head] for drawn in sets for head in drawn)
    assert {head.head for drawn in sets for head in drawn if head.layer == 2} == {0, 1, 2, 3}
    scales = np.ones((4, 6))
    scales[2, 1] = 1.5  # one of four
    dealt = shuffled_within_layers(scales, 50, 0, EXISTS)
    assert set(np.argwhere(dealt == 1.5)[:, 2]) == {0, 1, 2, 3}
    # Of four heads in layer 2, one each: they meet once in four.
    assert overlap_null([HeadId(2, 0)], [HeadId(2, 1)], EXISTS.sum(axis=1)) == pytest.approx([0.75, 0.25])


def test_a_head_that_a_layer_does_not_have_is_refused_with_what_it_has() -> None:
    shape = ModelShape(4, 6, 8, heads_by_layer=COUNTS)
    shape.require(HeadId(1, 5))
    with pytest.raises(UnknownNameError, match="layer 2 of the decoder has 4 heads"):
        shape.require(HeadId(2, 5))
