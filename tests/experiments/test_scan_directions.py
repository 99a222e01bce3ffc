"""Head scans by patching from the pair, in both directions, against plain runs of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Vseam, vseam  # noqa: F401
from tests.experiments.conftest import small_study
from vseam_core.api.interventions import AnswerScore, Patch, Run, Site, SiteEdit
from vseam_core.config.study import HeadScan, Sizes
from vseam_core.errors import VseamError
from vseam_core.experiments.encoding import Prepared, prepare_pair
from vseam_core.experiments.study.run import run_study
from vseam_core.runs.workspace import Workspace, open_workspace

SIZES = Sizes(score=12, hard=4, scan_sampled=10, scan_wrong=0, reference=4)
SCANS = [HeadScan(operation="patch", direction=direction) for direction in ("noising", "denoising")]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("directions") / "results.db", device="cpu") as workspace:
        run_study(workspace, small_study(stages=["scan"], datasets=["scenes/color"], heads=SCANS, sizes=SIZES))
        yield workspace


def effects(workspace: Workspace, operation: str) -> tuple[np.ndarray, list[str]]:
    """Stored effects `[samples, layers, heads]` and the samples they belong to."""
    for run in workspace.store.runs(method="head_scan")["id"]:
        found = workspace.store.head_effects(int(run), measure="logit_diff", operation=operation)
        if len(found.values):
            return found.values, found.samples["identifier"].tolist()
    raise AssertionError(f"no effects of {operation}")


def logit_diff(workspace: Workspace, base: Prepared, answer: Prepared, layer: int, head: int, donor: Prepared | None) -> float:
    """The clean answer's lead in a run, with one head's output from another run."""
    site = Site(layer, "head_output", head)
    edits = (SiteEdit(site, Patch()),) if donor else ()
    run = Run(base.prompt, (AnswerScore(answer.answer),), edits, donor.prompt if donor else None)
    value = workspace.model("llava-tiny").engine.run([run])[0].answer.logit_diff
    assert value is not None
    return value


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_an_effect_is_what_the_clean_head_is_worth_in_that_direction(scanned: Workspace, direction: str) -> None:
    values, identifiers = effects(scanned, "patch" if direction == "noising" else "patch_denoising")
    editor = scanned.plugins.editor("scenes")
    samples = {sample.identifier: sample for sample in scanned.benchmark("scenes/color").samples("score", "plain", 16, 0)}
    for index, identifier in enumerate(identifiers[:3]):
        pair = prepare_pair(scanned.model("llava-tiny"), editor.edit(samples[identifier], 0))
        for layer, head in [(1, 2), (4, 5), (0, 0)]:
            if direction == "noising":
                with_head = logit_diff(scanned, pair.clean, pair.clean, layer, head, None)
                without = logit_diff(scanned, pair.clean, pair.clean, layer, head, pair.corrupt)
            else:
                with_head = logit_diff(scanned, pair.corrupt, pair.clean, layer, head, pair.clean)
                without = logit_diff(scanned, pair.corrupt, pair.clean, layer, head, None)
            assert values[index, layer, head] == pytest.approx(with_head - without, abs=1e-4)


def test_both_directions_are_of_the_same_clean_samples_and_agree_on_the_head_that_matters_most(scanned: Workspace) -> None:
    (noising, first), (denoising, second) = effects(scanned, "patch"), effects(scanned, "patch_denoising")
    assert first == second
    assert not any("#" in identifier for identifier in first)
    strongest = np.unravel_index(noising.mean(axis=0).argmax(), noising.shape[1:])
    assert noising.mean(axis=0)[strongest] > 1
    assert denoising.mean(axis=0)[strongest] > 1


def test_a_study_with_both_directions_shows_them_as_two_maps(scanned: Workspace) -> None:
    study = small_study(stages=["scan"], datasets=["scenes/color"], heads=SCANS, sizes=SIZES)
    assert [scan.operation for scan in run_study(scanned, study).heads] == ["patch", "patch_denoising"]


def test_an_operation_without_a_second_image_has_no_direction(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "results.db", device="cpu") as workspace:
        with pytest.raises(VseamError, match="'zero' has no direction denoising") as caught:
            run_study(workspace, small_study(heads=[HeadScan(operation="zero", direction="denoising")]))
        assert "\n" not in str(caught.value)
        assert workspace.store.info()["counts"]["units"] == 0


def test_the_command_line_scans_in_both_directions(vseam: Vseam) -> None:  # noqa: F811
    common = ("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "4", "--device", "cpu")
    outcome = vseam(*common, "--direction", "denoising", "-q")
    assert outcome.code == 0, outcome.stderr
    rows = vseam("query", "SELECT DISTINCT operation FROM head_scores")
    assert "patch_denoising" in rows.stdout
    refused = vseam(*common, "--operation", "resample", "--direction", "denoising")
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1].startswith("vseam: operation 'resample' has no direction denoising")
    assert "--direction denoising" in vseam("heads", "scan", "--help").stdout
