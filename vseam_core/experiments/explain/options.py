"""What `explain` is asked: the image, the question, and how a second image comes about. Checked before anything is loaded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vseam_core.api.types import Box, ImageSource
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.datasets.answers import normal_answer
from vseam_core.errors import VseamError

_ARROW = re.compile(r"\s*(?:->|→)\s*")


@dataclass(frozen=True)
class ExplainOptions:
    """One question about one image.

    `edited` is a second image of the user's own; `edit` names what to change ("red -> blue"); `noise` destroys the image instead. With
    none of these the edit is what `editor` plans, or what can be found. `boxes` (pixels) say where it takes place. `answer` is what is
    explained (the model's own where it is empty), `against` what it is held against.
    """

    image: ImageSource
    question: str
    edited: ImageSource | None = None
    edit: str = ""
    noise: bool = False
    boxes: tuple[Box, ...] = ()
    answer: str = ""
    against: str = ""
    editor: EditorChoice | None = None

    def check(self) -> None:
        """Raise `VseamError` for what cannot be asked, before a model is loaded."""
        if not self.question.strip():
            raise VseamError("the question is empty")
        ways = [name for name, given in (("edited", self.edited is not None), ("edit", bool(self.edit)), ("noise", self.noise)) if given]
        if len(ways) > 1:
            raise VseamError(f"{ways[0]} and {ways[1]} exclude one another: a second image comes about in one way")
        if self.editor is not None and (self.edited is not None or self.noise):
            raise VseamError(f"an editor ({self.editor.name}) has nothing to do where the second image is given or made of noise")
        if self.boxes and self.edited is not None:
            raise VseamError("a box says where to edit, and a given edited image is taken as it is: give one of them")
        for box in self.boxes:
            if not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
                raise VseamError(f"box {','.join(f'{side:g}' for side in box)}: expected x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1")
        if self.answer and self.against and normal_answer(self.answer) == normal_answer(self.against):
            raise VseamError(f"the answer {self.answer!r} cannot be held against itself")
        if (self.against and not self.against.strip()) or (self.answer and not self.answer.strip()):
            raise VseamError("an answer is empty")
        self.words()

    def words(self) -> tuple[str, str]:
        """Source and target of the edit, twice "" where none is named. Raises `VseamError` for a text that is no edit of the question."""
        if not self.edit:
            return "", ""
        parts = _ARROW.split(self.edit.strip())
        if len(parts) != 2 or not all(parts):
            raise VseamError(f"edit {self.edit!r}: expected what is there and what it becomes, such as 'red -> blue'")
        source, target = parts
        if not re.search(rf"(?<!\w){re.escape(source)}(?!\w)", self.question, re.IGNORECASE):
            raise VseamError(f"edit {self.edit!r}: {source!r} is no word of the question {self.question!r}")
        if source.casefold() == target.casefold():
            raise VseamError(f"edit {self.edit!r}: nothing would change")
        return source, target
