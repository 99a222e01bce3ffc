"""`vseam datasets check` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

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


def test_a_rendered_world_is_checked_up_to_a_limit_evenly_over_its_splits(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["datasets", "check", "scenes/color", "--limit", "12", "--images", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["images"]) == (12, 12)
    assert execute(["datasets", "check", "--limit", "3", "--images", "scenes/color", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 3


def test_a_limit_of_a_file_is_that_many_of_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "one.png")
    lines = [f"Is thing {number} red?,yes,one.png" for number in range(200)]
    (tmp_path / "mine.csv").write_text("\n".join(["question,answer,image", *lines]), encoding="utf-8")
    assert execute(["datasets", "check", str(tmp_path / "mine.csv"), "--limit", "100", "--images", str(tmp_path / "photos"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["problems"]) == (100, {})


def test_a_check_of_nothing_says_where_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["datasets", "check", "--limit", "3"]) == 2
    assert "`vseam datasets` lists the names" in capsys.readouterr().err


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
