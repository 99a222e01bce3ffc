"""How the second image of `explain` comes about, and what it says where it cannot do what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vseam_core.api.types import Pair
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.datasets.images import image_source
from vseam_core.errors import SampleError, VseamError
from vseam_core.experiments.explain.asking import question_of, with_answers
from vseam_core.experiments.explain.editing import ImageEditing
from vseam_core.experiments.explain.options import ExplainOptions
from vseam_core.runs.workspace import Workspace, open_workspace

BOX = (16.0, 12.0, 44.0, 40.0)
QUESTION = "Is the ball red?"


def scene(colour: tuple[int, int, int] = (196, 32, 38)) -> Image.Image:
    """A ball on a grey ground."""
    image = Image.new("RGB", (64, 48), (150, 150, 150))
    ImageDraw.Draw(image).ellipse((18, 14, 42, 38), fill=colour)
    return image


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(":memory:", edits=tmp_path_factory.mktemp("edits")) as opened:
        yield opened


@dataclass(frozen=True)
class Made:
    pair: Pair
    remarks: tuple[str, ...]
    changed: np.ndarray

    @property
    def inside(self) -> float:
        """The share of changed pixels that lie in the box."""
        x0, y0, x1, y1 = map(int, BOX)
        return float(self.changed[y0:y1, x0:x1].sum() / max(1, self.changed.sum()))


def edited(workspace: Workspace, answer: str = "Yes", question: str = QUESTION, **given: Any) -> Made:
    options = ExplainOptions(image_source(scene()), question, **given)
    options.check()
    editor, made = ImageEditing(workspace, options, question_of(options, answer)).edited()
    images = [np.asarray(side.image.load(), dtype=int) for side in (made.pair.clean, made.pair.corrupt)]
    assert images[0].shape == images[1].shape
    assert made.pair.editor == editor.name
    return Made(made.pair, made.remarks, (images[0] != images[1]).any(-1))


def test_words_and_a_box_recolour_what_lies_in_it(workspace: Workspace) -> None:
    made = edited(workspace, edit="red -> blue", boxes=(BOX,))
    assert (made.pair.editor, made.pair.source_term, made.pair.target_term) == ("recolor", "red", "blue")
    assert made.remarks == ()
    assert made.changed.sum() > 300
    assert made.inside > 0.95
    middle = np.asarray(made.pair.corrupt.image.load())[26, 30]
    assert middle[2] > middle[0] + 60
    assert made.pair.corrupt.answer == "No"


def test_a_box_alone_is_edited_as_the_planner_reads_the_question(workspace: Workspace) -> None:
    made = edited(workspace, boxes=(BOX,))
    assert made.pair.source_term == "red"
    assert made.pair.target_term not in ("", "red")
    assert made.pair.editor == "recolor"


def test_words_without_a_place_blur_the_image_and_say_so(workspace: Workspace) -> None:
    made = edited(workspace, edit="red -> blue")
    assert made.pair.editor == "blur"
    (remark,) = made.remarks
    assert "nothing says where to paint red → blue" in remark
    assert "--box" in remark
    assert "the whole image is destroyed instead (blur)" in remark
    assert made.inside < 0.9


def test_what_no_painter_can_paint_is_blurred_in_its_box_and_the_reason_is_given(workspace: Workspace) -> None:
    made = edited(workspace, edit="ball -> cube", boxes=(BOX,))
    assert made.pair.editor == "blur"
    assert "no installed painter paints ball → cube" in made.remarks[0]
    assert "'cube' is no colour" in made.remarks[0]
    assert "what lies in the box is destroyed" in made.remarks[0]
    assert made.inside > 0.9


def test_nothing_named_blurs_and_noise_is_noise_without_a_remark(workspace: Workspace) -> None:
    made = edited(workspace)
    assert made.pair.editor == "blur"
    assert "no edit is named" in made.remarks[0]
    noisy = edited(workspace, noise=True)
    assert (noisy.pair.editor, noisy.remarks) == ("noise", ())
    assert noisy.changed.mean() > 0.95
    boxed = edited(workspace, noise=True, boxes=(BOX,))
    assert boxed.inside > 0.9


def test_an_image_of_ones_own_is_taken_as_it_is_at_the_size_of_the_first(workspace: Workspace) -> None:
    own = scene((38, 88, 190))
    made = edited(workspace, edited=image_source(own))
    np.testing.assert_array_equal(np.asarray(made.pair.corrupt.image.load()), np.asarray(own))
    assert made.inside > 0.95
    assert len(made.pair.boxes) == 1
    larger = edited(workspace, edited=image_source(own.resize((128, 96))))
    assert larger.pair.corrupt.image.load().size == (64, 48)
    faint = np.asarray(scene()).copy()
    faint[20, 20] += 1
    assert edited(workspace, edited=image_source(faint)).changed.sum() == 1


def test_a_named_editor_paints_the_words_or_plans_by_itself(workspace: Workspace) -> None:
    made = edited(workspace, edit="red -> green", boxes=(BOX,), editor=EditorChoice(name="grey", dilation=0, feather=0))
    assert (made.pair.editor, made.pair.target_term, made.remarks) == ("grey", "green", ())
    with pytest.raises(VseamError, match="plans its edits by itself"):
        edited(workspace, edit="red -> green", boxes=(BOX,), editor=EditorChoice(name="scenes"))


def test_a_box_outside_the_image_is_one_line(workspace: Workspace) -> None:
    with pytest.raises(SampleError, match="lies outside the image"):
        edited(workspace, edit="red -> blue", boxes=((100.0, 0.0, 120.0, 20.0),))


def test_the_same_question_held_against_another_answer_is_another_sample(workspace: Workspace) -> None:
    pair = edited(workspace, answer="red", question="What colour is the red ball?", noise=True).pair
    first, second, again = (with_answers(pair, "red", against) for against in ("blue", "green", "blue"))
    assert first.clean.identifier != second.clean.identifier
    assert first.clean.identifier == again.clean.identifier
    assert (first.corrupt.answer, first.corrupt.competitor) == ("blue", "red")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"question": "  "}, "the question is empty"),
        ({"edit": "red -> blue", "noise": True}, "edit and noise exclude one another"),
        ({"edited": image_source(scene()), "noise": True}, "edited and noise exclude one another"),
        ({"edit": "green -> blue"}, "'green' is no word of the question"),
        ({"edit": "re -> blue"}, "'re' is no word of the question"),
        ({"edit": "red"}, "expected what is there and what it becomes"),
        ({"edit": "red -> RED"}, "nothing would change"),
        ({"edit": "red -> "}, "expected what is there"),
        ({"boxes": ((30.0, 0.0, 20.0, 9.0),)}, "expected x0,y0,x1,y1 in pixels"),
        ({"boxes": ((float("nan"), 0.0, 20.0, 9.0),)}, "expected x0,y0,x1,y1 in pixels"),
        ({"boxes": (BOX,), "edited": image_source(scene())}, "taken as it is"),
        ({"answer": "yes", "against": " Yes."}, "cannot be held against itself"),
        ({"answer": " "}, "an answer is empty"),
        ({"noise": True, "editor": EditorChoice(name="grey")}, "an editor (grey) has nothing to do"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line_before_a_model_is_loaded(given: dict[str, Any], said: str) -> None:
    with pytest.raises(VseamError) as raised:
        ExplainOptions(image_source(scene()), **{"question": QUESTION, **given}).check()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("image", [3, None, np.zeros((4, 4)), ["a.png"]])
def test_what_is_no_image_is_said(image: object) -> None:
    with pytest.raises(VseamError, match="expected an image"):
        image_source(image)


def test_a_file_that_is_missing_is_said_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"nowhere\.png"):
        image_source(tmp_path / "nowhere.png").load()
