"""`vseam explain`: from an image and a question to a page, and one line for what cannot be explained."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest

from vseam_core.testing.images import Noise
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark

from .conftest import Vseam

ASKED = ("explain", "--model", "llava-tiny", "--image", "scene.png")


@pytest.fixture
def question(vseam: Vseam) -> str:
    """The question about the image that now lies in the working directory as scene.png."""
    sample = next(iter(SceneBenchmark("color").samples("score", "plain", 1)))
    sample.image.load().save("scene.png")
    Noise(1).load().save("noise.png")
    return sample.question


def test_one_command_answers_and_writes_a_page_without_a_dataset_or_a_database(
    vseam: Vseam, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    found = vseam(*ASKED, "--question", question, "--noise", "--open")
    assert found.code == 0, found.stderr
    assert "answers 'Yes'" in found.stdout
    assert "n = 1" in found.stdout
    assert len(found.stdout.splitlines()) <= 40
    page = Path("reports/explain-1/index.html")
    assert f"the page is {page}" in found.stderr
    assert shown == [page.resolve().as_uri()]
    assert page.stat().st_size < 1_000_000
    assert not Path("results.db").exists()
    assert not Path("edits").exists()


def test_the_envelope_holds_every_number_and_the_database_keeps_them_where_one_is_named(vseam: Vseam, question: str) -> None:
    found = vseam(*ASKED, "--question", question, "--db", "kept.db", "--output", "page", "--json", "-q")
    assert found.code == 0, found.stderr
    data = json.loads(found.stdout)
    assert data["schema"] == "vseam.explain/1"
    assert (data["n"], data["database"], data["page"]) == (1, "kept.db", "page/index.html")
    assert {one["operation"] for one in data["heads"]} == {"patch", "patch_denoising", "zero"}
    assert "the whole image is destroyed instead (blur)" in data["remarks"][0]
    count = ("query", "SELECT COUNT(*) FROM trace_effects", "--db", "kept.db", "--json")
    assert json.loads(vseam(*count).stdout)["rows"] == [[len(data["traces"])]]
    again = vseam(*ASKED, "--question", question, "--db", "kept.db", "--output", "other", "--json", "-q")
    assert json.loads(again.stdout)["traces"] == data["traces"]
    assert json.loads(vseam(*count).stdout)["rows"] == [[len(data["traces"])]]
    refused = vseam(*ASKED, "--question", question, "--output", "page")
    assert refused.code == 2
    assert "no page takes the place of another" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain", "--model", "llava-tiny", "--question", "Is it red?"), "explain needs --image"),
        (("explain", "--image", "scene.png", "--question", "Is it red?"), "explain needs --model"),
        ((*ASKED,), "explain needs --question"),
        ((*ASKED, "--question", " "), "the question is empty"),
        ((*ASKED, "--question", "Is it red?", "--edited", "noise.png", "--noise"), "edited and noise exclude one another"),
        ((*ASKED, "--question", "Is it red?", "--edit", "green -> blue"), "'green' is no word of the question"),
        ((*ASKED, "--question", "Is it red?", "--box", "1,2,3"), "expected x0,y0,x1,y1 in pixels"),
        ((*ASKED, "--question", "Is it red?", "--box", "9,2,3,8"), "x0 < x1"),
        (("explain", "--model", "llava-tinny", "--image", "scene.png", "--question", "Is it red?"), "did you mean 'llava-tiny'"),
        (("explain", "--model", "llava-tiny", "--image", "nowhere.png", "--question", "Is it red?"), "nowhere.png"),
        (("explain", "--model", "llava-tiny", "--image", "kept.txt", "--question", "Is it red?"), "cannot be read as an image"),
        ((*ASKED, "--question", "Is it red?", "--edited", "scene.png"), "the edited image is the same as the image"),
        ((*ASKED, "--question", "Is it <image> red?"), "control token"),
        ((*ASKED, "--question", "Is it red?", "--noise", "--editor", "grey"), "has nothing to do"),
    ],
)
def test_what_cannot_be_explained_is_one_line(vseam: Vseam, question: str, arguments: tuple[str, ...], said: str) -> None:
    Path("kept.txt").write_text("no image", encoding="utf-8")
    found = vseam(*arguments, "-q")
    assert found.code == 2, found.stdout
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not Path("reports").exists()
