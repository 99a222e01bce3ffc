"""`vseam edit` and what uses its pairs, on real image files: a table of questions with boxes, a painter without weights, a tiny model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from vseam_cli.editing_options import AssignmentType
from vseam_core.config.editor_settings import EditorChoice, WhichPairs
from vseam_core.experiments.tracing import TraceOptions, run_trace
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace, open_workspace

from .conftest import Vseam

PLUGIN = """
import re
import numpy as np
from vseam_core.errors import SampleError
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.api.interfaces import EditPlan, EditPlanner, MaskProvider
from vseam_core.plugins.records import EditPlannerRecord, MaskProviderRecord


class Planner(EditPlanner):
    name = "one-rule"

    def plan(self, sample):
        found = re.fullmatch("Is the (.+) (black|red|white|brown)[?]", sample.question)
        if not found:
            raise SampleError(f"{sample.identifier}: no rule reads {sample.question!r}")
        thing, color = found.groups()
        words = f"a blue {thing}"
        return EditPlan(color, "blue", words, "No", 0.9, "attribute", tuple(item.box for item in sample.objects), words)


class Boxes(MaskProvider):
    name = "plain-box"

    def mask(self, sample, plan):
        width, height = sample.image.load().size
        mask = np.zeros((height, width), dtype=bool)
        for x0, y0, x1, y1 in plan.boxes:
            mask[int(y0):int(y1), int(x0):int(x1)] = True
        return mask


@hookimpl
def vseam_edit_planners():
    yield EditPlannerRecord(name="one-rule", summary="Reads one form of question.", factory=Planner)


@hookimpl
def vseam_mask_providers():
    yield MaskProviderRecord(name="plain-box", summary="Fills the boxes of a plan.", factory=Boxes)
"""
USE = ("--dataset", "photos", "--editor", "recolor", "--planner", "one-rule", "--mask", "plain-box")


def drawn_rows(folder: Path) -> list[dict[str, object]]:
    """Textured images, each with a red thing whose place is known; one question that nobody can read, one image that is broken."""
    rows: list[dict[str, object]] = []
    for number in range(5):
        generator = np.random.default_rng(number)
        noise = generator.integers(90, 200, (150, 200, 3)).astype(np.uint8)
        picture = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
        x, y = (int(value) for value in generator.integers(10, 80, 2))
        ImageDraw.Draw(picture).rectangle((x, y, x + 59, y + 49), fill=(190, 30, 25))
        picture.save(folder / f"{number}.jpg", quality=92)
        rows.append(
            {"id": f"q{number}", "image": f"{number}.jpg", "question": "Is the box red?", "answer": "Yes", "box": [x, y, x + 60, y + 50]}
        )
    rows[3]["question"] = "Why?"
    (folder / "4.jpg").write_bytes(b"no image at all")
    return rows


def published_rows(folder: Path) -> list[dict[str, object]]:
    """Three of the published photographs with boxes drawn by hand."""
    root = os.environ.get("VSEAM_PUBLISHED_DATA")
    if not root:
        pytest.skip("the published photographs are not here: set VSEAM_PUBLISHED_DATA to the folder that holds examples/")
    for name in ("color", "vehicle", "material"):
        (folder / f"{name}.jpg").write_bytes((Path(root) / "examples" / f"{name}.jpg").read_bytes())
    return [
        {"id": "shirt", "image": "color.jpg", "question": "Is the shirt black?", "answer": "Yes", "box": [0, 200, 100, 375]},
        {"id": "car", "image": "vehicle.jpg", "question": "Is the car white?", "answer": "No", "box": [10, 160, 115, 240]},
        {"id": "chair", "image": "material.jpg", "question": "Is the chair brown?", "answer": "Yes", "box": [85, 45, 440, 235]},
    ]


@pytest.fixture
def photos(tmp_path: Path, install: Callable[..., Path]) -> Callable[[Callable[[Path], list[dict[str, object]]]], Path]:
    install("acme-edits", edits=PLUGIN)

    def make(rows_of: Callable[[Path], list[dict[str, object]]]) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        rows = rows_of(folder)
        (folder / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        (tmp_path / "registry.yaml").write_text(
            "datasets:\n  photos:\n    plugin: table\n    options:\n"
            f"      questions: {folder / 'questions.jsonl'}\n      images: {folder}\n      level: attribute\n      category: color\n"
        )
        return folder

    return make


def test_edits_of_real_files_are_made_checked_stored_and_skipped_with_reasons(vseam: Vseam, photos, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    photos(drawn_rows)
    outcome = vseam("edit", *USE, "--pool", "all", "--limit", "5", "--json")
    assert outcome.code == 3, outcome.stderr
    result = json.loads(outcome.stdout)
    reasons = dict(result["skipped"])
    assert len(reasons) == 2
    assert not any(reason.startswith(identifier) for identifier, reason in reasons.items())  # it stands before the reason already
    assert any("no rule reads 'Why?'" in reason for reason in reasons.values())
    assert any("4.jpg" in reason for reason in reasons.values())
    kinds = [dict(zip(result["columns"], row, strict=True))["kind"] for row in result["rows"]]
    assert kinds == ["edit", "repaint", "elsewhere"] * 3
    assert all(dict(zip(result["columns"], row, strict=True))["changed outside"] == 0 for row in result["rows"])
    entries = [json.loads(line) for line in (tmp_path / "edits" / "manifest.jsonl").read_text().splitlines()]
    for entry in entries:
        clean, corrupt = (np.asarray(Image.open(tmp_path / "edits" / entry[side])) for side in ("clean", "corrupt"))
        mask = np.asarray(Image.open(tmp_path / entry["record"]["mask_path"])) > 0
        np.testing.assert_array_equal(clean[~mask], corrupt[~mask])
        assert (tmp_path / "edits" / entry["view"]).exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "edits" / "recolor").glob("*.json")}
    assert len(before) == 9
    assert vseam("edit", *USE, "--pool", "all", "--limit", "5").code == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "edits" / "recolor").glob("*.json")} == before


def test_a_check_whose_package_is_missing_is_said_in_one_line(vseam: Vseam, photos, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    photos(drawn_rows)
    monkeypatch.setattr("vseam_core.editing.checks.can_measure_ssim", lambda: False)
    outcome = vseam("edit", *USE, "--pool", "all", "--limit", "1", "--no-controls")
    assert outcome.stderr.count("pip install 'vseam[edit]'") == 1
    (row,) = json.loads(vseam("query", "SELECT checks FROM edits", "--json").stdout)["rows"]
    assert "raw_ssim_outside" not in json.loads(row[0])
    assert "raw_psnr_outside" in json.loads(row[0])


def edits_made(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "edits" / "recolor").glob("*.json")}


def traced(workspace: Workspace, pairs: WhichPairs = "all", tracer: str = "lens") -> Outcome:
    choice = EditorChoice(name="recolor", planner="one-rule", mask="plain-box", pairs=pairs)
    return run_trace(workspace, "llava-tiny", "photos", TraceOptions(tracer, choice, limit=9))


@pytest.mark.parametrize("rows_of", [drawn_rows, published_rows], ids=["drawn", "published"])
def test_traces_run_on_the_pairs_of_a_painter_and_make_no_edit_twice(vseam: Vseam, photos, tmp_path: Path, rows_of) -> None:  # type: ignore[no-untyped-def]
    photos(rows_of)
    outcome = vseam("trace", *USE, "--model", "llava-tiny", "--tracer", "regions", "--limit", "9", "--json")
    assert outcome.code in (0, 3), outcome.stderr
    query = "SELECT e.identifier, t.width, min(t.height) FROM trace_effects t JOIN edits e ON e.id = t.edit_id GROUP BY 1, 2"
    rows = json.loads(vseam("query", query, "--json").stdout)["rows"]
    made = edits_made(tmp_path)
    assert len(made) == len(rows) >= 1
    assert all((width, height > 2) == (3, True) for _, width, height in rows)
    with open_workspace("results.db") as workspace:
        assert len(traced(workspace, tracer="regions").keys) == len(rows)
        assert len(workspace.store.baselines()) == 2 * len(rows)
    assert edits_made(tmp_path) == made


def test_accepted_pairs_alone_can_be_traced(vseam: Vseam, photos, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    photos(drawn_rows)
    vseam("edit", *USE, "--pool", "all", "--limit", "5", "--no-controls")
    page = vseam("edit", "review", "--json")
    assert page.code == 0, page.stderr
    assert (tmp_path / "edits" / "review.html").stat().st_size > 10_000
    result = json.loads(page.stdout)
    keys = [dict(zip(result["columns"], row, strict=True))["key"] for row in result["rows"]]
    assert len(keys) == 3
    with open_workspace("results.db") as workspace:
        everything = traced(workspace)
        assert len(everything.keys) >= 1
        nothing = traced(workspace, "accepted")
        assert not nothing.keys
        assert any("nobody accepted this edit" in skip.reason for skip in nothing.skips)
        for key in keys:
            assert vseam("edit", "review", "--accept", key, "--reviewer", "ann").code == 0
        assert traced(workspace, "accepted").keys == everything.keys
        for key in keys:
            assert vseam("edit", "review", "--reject", key, "--reviewer", "bob").code == 0
        assert not traced(workspace, "accepted").keys
        assert traced(workspace, "passing").keys == everything.keys


def test_editing_options_that_contradict_or_name_nothing_are_one_line(vseam: Vseam, photos) -> None:  # type: ignore[no-untyped-def]
    photos(drawn_rows)
    for arguments, message in [
        (("edit", *USE, "--passing-only", "--accepted-only"), "exclude one another"),
        (("edit", *USE[:-2], "--mask", "plain-bx"), "unknown mask provider 'plain-bx'; did you mean 'plain-box'"),
        (("edit", *USE, "--editor-option", "strenth=1"), "has no option 'strenth'"),
        (("edit", *USE, "--editor-option", "strength"), "expected NAME=VALUE"),
        (("trace", *USE[:-2], "--mask", "plain-bx", "--model", "llava-tiny"), "unknown mask provider 'plain-bx'"),
        (("edit", "review", "--db", "other.db"), "there is no results database"),
    ]:
        outcome = vseam(*arguments)
        assert outcome.code == 2, arguments
        assert message in outcome.stderr
        assert "Traceback" not in outcome.stderr


def test_a_review_without_edits_and_of_unknown_names_is_one_line(vseam: Vseam) -> None:
    vseam("edit", "--limit", "1")
    for arguments, message in [
        (("edit", "review", "--accept", "feedfeedfeed"), "unknown edit 'feedfeedfeed'"),
        (("edit", "review", "--only-editor", "recolor"), "holds no edit with images"),
    ]:
        outcome = vseam(*arguments)
        assert outcome.code == 2
        assert message in outcome.stderr


def test_edits_of_scenes_look_as_they_always_did_and_can_be_reviewed(vseam: Vseam, tmp_path: Path) -> None:
    outcome = vseam("edit", "--dataset", "scenes/color", "--limit", "2", "--output", "here", "--json")
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert result["directory"] == "here"
    assert result["columns"][-1] == "view"
    assert len(list((tmp_path / "here").glob("*-view.png"))) == 2
    review = vseam("edit", "review", "--page", "page.html")
    assert review.code == 0, review.stderr
    assert (tmp_path / "page.html").read_text().count("<article ") == 2


def test_two_models_answers_are_checks_and_the_second_one_decides(vseam: Vseam) -> None:
    outcome = vseam("edit", "--dataset", "scenes/color", "--limit", "2", "--model", "llava-tiny", "--second-model", "instructblip-tiny")
    assert outcome.code == 0, outcome.stderr
    rows = json.loads(vseam("query", "SELECT checks FROM edits", "--json").stdout)["rows"]
    checks = [json.loads(row[0]) for row in rows]
    assert len(checks) == 2
    assert all(set(found) == {"flip_model", "flip_second"} and set(found.values()) <= {0.0, 1.0} for found in checks)


def test_the_planner_and_the_mask_of_the_defaults_take_options(vseam: Vseam, photos, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    photos(drawn_rows)
    plain = ("--dataset", "photos", "--editor", "recolor", "--pool", "all", "--limit", "2", "--no-controls", "--json")
    found = {}
    for name, more in {"default": (), "padded": ("--mask-option", "padding=0.5"), "another": ("--planner-option", "seed=11")}.items():
        outcome = vseam("edit", *plain, *more)
        assert outcome.code == 0, outcome.stderr
        result = json.loads(outcome.stdout)
        found[name] = [dict(zip(result["columns"], row, strict=True)) for row in result["rows"]]
    assert all(row["clean answer"] == "Yes" and row["corrupt answer"] == "No" for rows in found.values() for row in rows)
    for usual, padded in zip(found["default"], found["padded"], strict=True):
        assert usual["edit"] == padded["edit"]
        assert usual["view"] != padded["view"]
    assert [row["edit"] for row in found["default"]] != [row["edit"] for row in found["another"]]
    unknown = vseam("edit", *plain, "--mask-option", "pading=1")
    assert unknown.code == 2
    assert "did you mean 'padding'" in unknown.stderr


@pytest.mark.parametrize(
    ("given", "value"),
    [("images={question_id}.png", "{question_id}.png"), ("strength=0.8", 0.8), ("terms=[a, b]", ["a", "b"]), ("x={a: 1}", {"a": 1})],
)
def test_an_editor_s_option_is_yaml_but_for_a_path_with_fields(given: str, value: object) -> None:
    assert AssignmentType().convert(given, None, None)[1] == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("strength=.nan",), "expected text, a number"),
        (("strength=2026-01-01",), "quote dates"),
        (("strength=2026-13-45",), "the value is no YAML"),
        (("strength=0.5", "strength=0.7"), "strength is given twice"),
    ],
)
def test_a_value_that_means_nothing_is_one_line_for_editors_too(vseam: Vseam, given: tuple[str, ...], said: str) -> None:
    options = [word for one in given for word in ("--editor-option", one)]
    outcome = vseam("edit", "--dataset", "scenes/color", "--editor", "blur", *options, "--limit", "1")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1
