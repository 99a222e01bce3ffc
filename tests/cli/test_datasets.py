"""`vseam datasets check` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vseam_cli.main import execute


def rows(tmp_path: Path, *records: dict[str, str]) -> None:
    folder = tmp_path / "pope"
    folder.mkdir()
    (folder / "coco_pope_random.json").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


def test_a_check_reports_and_says_by_its_exit_code_whether_samples_are_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VSEAM_DATA", str(tmp_path))
    line = {"question_id": "1", "image": "COCO_val2014_000000000042.jpg", "text": "Is there a dog in the image?", "label": "yes"}
    rows(tmp_path, line, {**line, "label": "no"})
    assert execute(["datasets", "check", "pope/random", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["samples"], found["images"]) == ("vseam.dataset-check/1", 2, 1)
    assert found["problems"]["missing images"]["count"] == 1
    assert found["problems"]["contradictions"]["examples"][0][0] == "pope/random/plain/42-dog~2"


def test_a_rendered_world_is_checked_up_to_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["datasets", "check", "scenes/color", "--limit", "12", "--images"]) == 0
    assert "24" in capsys.readouterr().out


def test_missing_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VSEAM_DATA", str(tmp_path))
    assert execute(["datasets", "check", "clevr"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("vseam: dataset 'clevr': its questions file is not there; looked for ")
    assert shown.count("\n") == 1


def test_datasets_are_still_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["datasets", "--json"]) == 0
    names = {item["name"] for item in json.loads(capsys.readouterr().out)["datasets"]}
    assert {"gqa/color", "pope/random", "cocoqa/count", "vqav2", "table", "scenes/color"} <= names
