"""Stages that are off unless a study lists them: what they store, that a report draws the same from the database, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tests.experiments.conftest import SIZES, small_study
from vseam_core.analysis.frames import frame_records
from vseam_core.config.study import METHOD_STAGES, HeadScan, Method, default_study
from vseam_core.config.study_file import load_study
from vseam_core.config.study_methods import Comparing, PathScreening
from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError
from vseam_core.experiments.study.nothing_left import require_results
from vseam_core.experiments.study.run import run_study
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import GenerationMethodRecord
from vseam_core.plugins.registry import Registry
from vseam_core.report.data.study import study_page_data
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.stored_study import find_study, read_material, study_of
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_core.store.query import run_query

TABLES = ("comparisons", "direction_scores", "path_screenings", "screened_paths", "reading_tests")
REDIRECT = {"name": "redirect", "options": {"heads": "L1H2+L4H5", "share": 0.9}}
STUDY = small_study(
    datasets=["scenes/color"],
    tracers=[Method(name="gaze")],
    heads=[HeadScan(operation="zero")],
    sizes=SIZES.model_copy(update={"pairs": 4, "score": 8, "hard": 0, "scan_sampled": 6, "scan_wrong": 0, "choose": 4, "test": 6}),
    stages=["trace", "scan", *METHOD_STAGES, "report"],
    compare=Comparing.model_validate({"methods": [REDIRECT, "acme/nothing"], "timed": 0, "max_new_tokens": 2}),
    screen_paths=PathScreening(top=3, integrated_steps=0),
)


class Methods:
    @hookimpl
    def vseam_generation_methods(self) -> Iterator[GenerationMethodRecord]:
        options = {"heads": "L9H9", "box": [0, 0, 1, 1]}
        factory = "vseam_plugins.generation.redirecting:AttentionRedirect"
        yield GenerationMethodRecord(name="acme/nothing", summary="of another model", factory=factory, options=options)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, StudyMaterial]]:
    plugins = build_plugins(local={"acme": Methods()})
    with open_workspace(tmp_path_factory.mktemp("methods") / "results.db", plugins=plugins, device="cpu") as workspace:
        yield workspace, run_study(workspace, STUDY)


def test_every_stage_leaves_its_rows_and_a_report_reads_the_same_ones(ran: tuple[Workspace, StudyMaterial]) -> None:
    workspace, material = ran
    assert material.study is not None
    stored = read_material(workspace.store, study_of(workspace.store, material.study))
    for name in TABLES:
        frame = getattr(material, name)
        assert len(frame), name
        pd.testing.assert_frame_equal(frame, getattr(stored, name))
    assert set(stored.traces["tracer"]) == {"gaze"}
    pages = [
        study_page_data(workspace.store, find_study(workspace.store, ["small"]), each, closing_tables(each)) for each in (material, stored)
    ]
    for name in ("comparisons", "directions", "screened_paths", "readings"):
        assert pages[0].content[name] == pages[1].content[name]
        assert pages[0].content[name]
    titles = [table.title for table in closing_tables(stored)]
    for words in (
        "Ways to answer, compared",
        "Screening of paths",
        "The strongest of the paths",
        "Directions between yes and no",
        "heads that look",
    ):
        assert any(words in title for title in titles), words


def test_a_comparison_has_the_model_the_threshold_and_what_was_refused(ran: tuple[Workspace, StudyMaterial]) -> None:
    workspace, material = ran
    rows = {row["method"]: row for row in frame_records(material.comparisons)}
    assert list(rows) == ["none", "threshold", "redirect", "acme/nothing"]
    assert rows["redirect"]["change"].startswith("redirect (share=0.9, heads=L1H2+L4H5")
    assert rows["redirect"]["gain"] == pytest.approx(rows["redirect"]["accuracy"] - rows["none"]["accuracy"])
    assert rows["acme/nothing"]["accuracy"] is None
    assert "L9H9 does not exist" in rows["acme/nothing"]["reason"]
    columns, found, _ = run_query(workspace.store.label, "SELECT method, gain FROM comparisons WHERE method = 'redirect'")
    assert [dict(zip(columns, row, strict=True)) for row in found] == [{"method": "redirect", "gain": rows["redirect"]["gain"]}]


def test_each_head_is_a_point_with_what_is_read_of_it_and_its_mean_effect(ran: tuple[Workspace, StudyMaterial]) -> None:
    workspace, material = ran
    (first, *_) = frame_records(material.reading_tests)
    scan = next(iter(material.heads))
    page = study_page_data(workspace.store, find_study(workspace.store, ["small"]), material, [])
    reading = page.content["readings"][0]
    assert reading["tests"][first["effect"]]["rank_correlation"] == first["rank_correlation"]
    looks, effects = np.frombuffer(base64.b64decode(page.arrays[reading["values"]["array"]]), "<f8").reshape(2, -1)
    support = scan.claims.map("support")
    assert support is not None
    np.testing.assert_allclose(effects, support.ravel())
    signed = next(
        row for row in frame_records(material.reading_tests) if row["effect"] == "signed" and row["reading"] == reading["reading"]
    )
    assert spearmanr(looks, effects).statistic == pytest.approx(signed["rank_correlation"], abs=1e-6)


def test_running_it_again_computes_nothing_and_finds_the_same(ran: tuple[Workspace, StudyMaterial]) -> None:
    workspace, material = ran
    before = dict(workspace.store.info()["counts"])
    again = run_study(workspace, STUDY)
    assert dict(workspace.store.info()["counts"]) == before
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(material, name))


def test_what_a_dataset_does_not_allow_is_a_remark_and_alone_an_error(ran: tuple[Workspace, StudyMaterial]) -> None:
    workspace, _ = ran
    study = small_study(datasets=["scenes-open/color"], stages=["directions"], sizes=SIZES.model_copy(update={"pairs": 1}))
    material = run_study(workspace, study)
    assert material.notes == [
        "llava-tiny on scenes-open/color: stage directions measured nothing: scenes-open/color: directions lie between yes and no, and its "
        "questions are open"
    ]
    with pytest.raises(VseamError, match="nothing was left to measure"):
        require_results(workspace, study, material)


def test_the_default_study_lists_none_of_them_and_keeps_its_identity() -> None:
    study = default_study()
    assert not set(METHOD_STAGES) & set(study.stages)
    assert not set(METHOD_STAGES) & set(study.stored())
    listed = study.with_overrides(stages=[*study.stages, "screen_paths"])
    assert "screen_paths" in listed.stored()
    assert study.expand()[0].identity != listed.expand()[0].identity
    other = listed.with_overrides(screen_paths=PathScreening(top=7))
    assert listed.expand()[0].identity != other.expand()[0].identity


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [
        ("compare: {methods: [vdc]}", UnknownNameError, "compare.methods.0: unknown generation method 'vdc'"),
        ("compare: {methods: []}", InvalidFileError, "compare.methods"),
        ("screen_paths: {position: image}", InvalidFileError, "screen_paths.position"),
        ("directions: {site: query}", InvalidFileError, "directions.site"),
    ],
)
def test_sections_are_checked_when_a_file_is_read(lines: str, kind: type[Exception], said: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"models: [llava-tiny]\ndatasets: [scenes/color]\nstages: [compare, directions, screen_paths]\n{lines}\n", encoding="utf-8"
    )
    with pytest.raises(kind, match=said):
        load_study(file, Registry(build_plugins()))
