"""The second image: a given one, an edit painted by what is installed, or, said so, the image blurred or made of noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.interfaces import EditedImages, Editor, EditPlan, EditPlanner, MaskProvider, Painter
from vseam_core.api.types import Box, ImageSource, Pair, Sample
from vseam_core.config.defaults import NOISE, UNNAMED_CHANGE
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.datasets.answers import normal_answer, other_word
from vseam_core.editing.composed import ComposedEditor, ImagesRecipe, PaintedRecipe
from vseam_core.editing.differences import difference_mask
from vseam_core.editing.folder import EditFolder
from vseam_core.errors import PluginError, SampleError, VseamError
from vseam_core.experiments.explain.options import ExplainOptions
from vseam_core.plugins.records import EditorRecord
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

UNKNOWN_ANSWER = "another answer"
"""Stands for the answer after an edit where nobody knows it before the model is asked."""


@dataclass(frozen=True, eq=False)
class Edited:
    """The pair, and what has to be said about how it came about."""

    pair: Pair
    remarks: tuple[str, ...] = ()


class GivenPlan(EditPlanner):
    """Plans what somebody named."""

    name = "given"

    def __init__(self, plan: EditPlan) -> None:
        self._plan = plan

    def plan(self, sample: Sample) -> EditPlan:
        """The plan that was given."""
        return self._plan


class GivenBoxes(MaskProvider):
    """The boxes of the plan, to the pixel."""

    name = "given"

    def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
        """Whatever lies in a box."""
        width, height = sample.image.load().size
        found = np.zeros((height, width), dtype=bool)
        for x0, y0, x1, y1 in plan.boxes:
            rows, columns = slice(max(0, round(y0)), max(0, round(y1))), slice(max(0, round(x0)), max(0, round(x1)))
            found[rows, columns] = True
        return found


class GivenImage(EditedImages):
    """One edited image of the user's own, taken as it is."""

    name = "given"
    composites = False

    def __init__(self, image: ImageSource, answer: str) -> None:
        self._image, self._answer = image, answer

    def plan(self, sample: Sample) -> EditPlan:
        """Nothing is known about it but the answer that it is to have."""
        return EditPlan("", "", "", self._answer, level=sample.level)

    def image(self, sample: Sample) -> Image:
        """The image. Raises `SampleError` where it cannot be read."""
        return self._image.load()

    def mask(self, sample: Sample, clean: Image, edited: Image) -> np.ndarray:
        """Where the two images differ. Raises `SampleError` where they do not."""
        try:
            return difference_mask(clean, edited)
        except SampleError:
            if np.array_equal(np.asarray(clean), np.asarray(edited)):
                raise SampleError("the edited image is the same as the image: there is nothing to trace") from None
            # Too faint for a region: every pixel that differs at all.
            changed: np.ndarray = (np.asarray(clean) != np.asarray(edited)).any(-1)
            return changed


class OnePair(Editor):
    """An editor that has made its only edit."""

    def __init__(self, pair: Pair, made_by: Editor) -> None:
        self.name, self.version, self._pair, self._made_by = pair.editor, made_by.version, pair, made_by

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        """The pair."""
        return self._pair

    def identity(self) -> dict[str, object]:
        """What made the pair."""
        return dict(self._made_by.identity())


class ImageEditing:
    """Makes the pair of one sample in the way that `options` ask for."""

    def __init__(self, workspace: Workspace, options: ExplainOptions, sample: Sample) -> None:
        self._workspace, self._options, self._sample = workspace, options, sample
        self._size = sample.image.load().size
        self._folder = EditFolder(workspace.edits)
        self._choice = options.editor or EditorChoice(dilation=0, feather=0)

    def edited(self) -> tuple[Editor, Edited]:
        """The editor that made the pair, and the pair. Raises `VseamError` for an edit that cannot be made as it was asked for."""
        options = self._options
        if options.edited is not None:
            images = GivenImage(options.edited, self._answer_after("", ""))
            return self._made(ComposedEditor(ImagesRecipe(images, EditorChoice(name=images.name, dilation=0)), self._folder))
        if options.noise:
            return self._destroyed(NOISE)
        if options.edit:
            return self._painted(self._plan(*options.words()))
        if options.editor is not None:
            # The editor plans by itself, as it would on a dataset.
            return self._made(self._workspace.editor(options.editor))
        return self._found_edit()

    def _found_edit(self) -> tuple[Editor, Edited]:
        """Nothing says what to change: what the planner reads in the question, where a box says where it is."""
        if not self._options.boxes:
            return self._destroyed(UNNAMED_CHANGE, "no edit is named (--edit, --edited)")
        try:
            planner = self._workspace.plugins.edit_planner(self._choice.planner, **self._choice.planner_options)
            plan = planner.plan(self._sample)
        except (SampleError, PluginError) as error:
            return self._destroyed(UNNAMED_CHANGE, f"no edit is named, and none was found in the question ({error})")
        return self._painted(replace(plan, boxes=self._options.boxes))

    def _plan(self, source: str, target: str) -> EditPlan:
        plan = EditPlan(source, target, target, self._answer_after(source, target), level="attribute", region_prompt=target, find=source)
        return replace(plan, boxes=self._options.boxes)

    def _painted(self, plan: EditPlan) -> tuple[Editor, Edited]:
        """The plan carried out by the named painter, or by the first installed one that can."""
        named = self._options.editor
        if named is not None:
            painter = self._workspace.plugins.editor(named.name, **named.options)
            if not isinstance(painter, Painter):
                raise VseamError(f"editor {named.name!r} plans its edits by itself: it cannot be told what to change")
            return self._made(self._composed(named, painter, plan))
        change = f"{plan.source_term} → {plan.target_term}"
        if not plan.boxes:
            return self._destroyed(UNNAMED_CHANGE, f"nothing says where to paint {change}: name the place by --box, or --editor and --mask")
        refusals = []
        for name, painter in self._painters():
            try:
                return self._made(self._composed(replace_name(self._choice, name), painter, plan))
            except SampleError as error:
                refusals.append(str(error))
        reason = f" ({'; '.join(refusals)})" if refusals else ""
        return self._destroyed(UNNAMED_CHANGE, f"no installed painter paints {change}{reason}")

    def _painters(self) -> Iterator[tuple[str, Painter]]:
        """The installed painters that paint what a plan says without more to be known, the cheap ones first.

        Those that need packages of their own need weights too: they have to be named.
        """
        plugins, found = self._workspace.plugins, []
        for registration in plugins.registrations(EditorRecord):
            if registration.record.extra or registration.record.experimental:
                continue
            try:
                made = plugins.editor(registration.record.name)
            except VseamError:
                continue
            if isinstance(made, Painter) and made.follows_plan:
                found.append((registration.record.name, made))
        yield from sorted(found, key=lambda item: (not item[1].is_cheap, item[0]))

    def _destroyed(self, name: str, reason: str = "") -> tuple[Editor, Edited]:
        """What lies in the boxes, or the whole image, painted over by a painter that takes no plan."""
        painter = self._workspace.plugins.editor(name)
        if not isinstance(painter, Painter):
            raise VseamError(f"editor {name!r} is not a painter")
        whole: Box = (0.0, 0.0, float(self._size[0]), float(self._size[1]))
        plan = EditPlan("", "", "", self._answer_after("", ""), boxes=self._options.boxes or (whole,))
        place = "what lies in the box" if self._options.boxes else "the whole image"
        remarks = (f"{reason}: {place} is destroyed instead ({name}), so that effects are of everything in it",) if reason else ()
        choice = EditorChoice(name=name, dilation=0, feather=0)
        return self._made(self._composed(choice, painter, plan), remarks)

    def _composed(self, choice: EditorChoice, painter: Painter, plan: EditPlan) -> ComposedEditor:
        # A box that somebody gave for this image is exact, unless another way to find the pixels is named.
        exact = bool(plan.boxes) and choice.mask == EditorChoice().mask and not choice.mask_options
        masks = GivenBoxes() if exact else self._workspace.plugins.mask_provider(choice.mask, **choice.mask_options)
        return ComposedEditor(PaintedRecipe(painter, GivenPlan(plan), masks, choice, self._folder), self._folder)

    def _made(self, editor: Editor, remarks: tuple[str, ...] = ()) -> tuple[Editor, Edited]:
        return editor, Edited(editor.edit(self._sample, self._workspace.seed), remarks)

    def _answer_after(self, source: str, target: str) -> str:
        """The answer after the edit, as far as it is known before the model is asked about the edited image."""
        answer = self._sample.answer
        if self._options.against:
            return self._options.against
        if source and normal_answer(answer) == normal_answer(source):
            return target
        return other_word(answer) or UNKNOWN_ANSWER


def replace_name(choice: EditorChoice, name: str) -> EditorChoice:
    """The same choice of planner and masks with another painter."""
    fields: dict[str, Any] = {**choice.model_dump(), "name": name, "options": {}}
    return EditorChoice(**fields)
