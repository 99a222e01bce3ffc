"""A scan of a dataset that is too small to lend donors says so before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from .conftest import Vseam

SCAN = ("heads", "scan", "--model", "llava-tiny", "--dataset", "mine.csv", "--images", "photos", "--limit", "6")


@pytest.fixture
def twelve_photos(vseam: Vseam) -> None:
    """A table of twelve questions, each about an image of its own."""
    Path("photos").mkdir()
    lines = ["question,answer,image"]
    for number in range(12):
        Image.new("RGB", (120, 120), (20 * number, 90, 0)).save(f"photos/{number}.png")
        lines.append(f"Is the dog red?,{('yes', 'no')[number % 2]},{number}.png")
    Path("mine.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.usefixtures("twelve_photos")
def test_too_few_other_images_end_in_one_line_before_the_model_is_loaded(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("vseam_core.runs.workspace.Workspace.model", load)
    outcome = vseam(*SCAN, "--operation", "resample", "--operation-option", "donors=12")
    assert outcome.code == 2
    assert outcome.stderr.count("\n") == 1
    assert "mine.csv has 12 rows (score" in outcome.stderr
    assert "resample takes 12 donors (questions about other images of pool score)" in outcome.stderr
