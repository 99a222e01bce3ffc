"""Builds the editor that a study or command names: an editor as it is, or one composed around a painter or edited images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vseam_core.api.interfaces import EditedImages, Editor, Painter
from vseam_core.api.types import Pair, Sample
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.editing.composed import ComposedEditor, ImagesRecipe, PaintedRecipe, Recipe
from vseam_core.editing.folder import EditFolder
from vseam_core.editing.model_check import ModelCheck
from vseam_core.errors import SampleError
from vseam_core.runs.identity import component_of

if TYPE_CHECKING:
    from vseam_core.plugins.discovery import Plugins

_log = logging.getLogger(__name__)

IsAccepted = Callable[[Pair], bool]


def build_editor(plugins: Plugins, choice: EditorChoice, folder: EditFolder, is_accepted: IsAccepted | None = None) -> Editor:
    """The editor of that choice. Raises `VseamError` subclasses for names that nobody has, options and missing extras.

    `is_accepted` says whether a person accepted a pair; it is asked where the choice takes accepted pairs only.
    """
    supplied = plugins.editor(choice.name, **choice.options)
    if unused := [] if isinstance(supplied, Painter) else _painters_own(choice):
        _log.warning("editor %r plans and masks by itself: %s is for painters, and not used", choice.name, " and ".join(unused))
    editor = (
        supplied
        if isinstance(supplied, Editor)
        else ComposedEditor(_recipe(plugins, choice, supplied, folder), folder, _model_check(choice))
    )
    if choice.pairs == "all":
        return editor
    return ChosenPairs(editor, choice.pairs == "accepted", is_accepted or (lambda pair: False), choice.options)


def _painters_own(choice: EditorChoice) -> list[str]:
    """What was asked for, beyond the defaults, of which only painters know."""
    usual = EditorChoice()
    return [f"{part} {named!r}" for part in ("planner", "mask") if (named := getattr(choice, part)) != getattr(usual, part)]


def _model_check(choice: EditorChoice) -> ModelCheck | None:
    if choice.clip is None:
        return None
    from vseam_core.editing.clip import ClipMargin

    return ClipMargin(choice.clip)


def _recipe(plugins: Plugins, choice: EditorChoice, supplied: Painter | EditedImages, folder: EditFolder) -> Recipe:
    if isinstance(supplied, EditedImages):
        return ImagesRecipe(supplied, choice)
    planner = plugins.edit_planner(choice.planner, **choice.planner_options)
    masks = plugins.mask_provider(choice.mask, **choice.mask_options)
    return PaintedRecipe(supplied, planner, masks, choice, folder)


class ChosenPairs(Editor):
    """An editor whose pairs are used only if they passed their checks, or if a person accepted them."""

    def __init__(self, editor: Editor, accepted: bool, is_accepted: IsAccepted, options: Mapping[str, object] | None = None) -> None:
        self.name, self.version, self._editor, self._options = editor.name, editor.version, editor, options
        self._accepted, self._is_accepted = accepted, is_accepted

    def identity(self) -> Mapping[str, object]:
        """The editor's own: which of its pairs are used changes no pair, so that what was measured on one is found again."""
        return component_of(self._editor, self._options).options

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        """The pair of the sample. Raises `SampleError` for one that is not chosen."""
        pair = self._editor.edit(sample, seed)
        if self._accepted and not self._is_accepted(pair):
            raise SampleError(f"{pair.identifier}: left out, nobody accepted this edit (`vseam edit review`)")
        if not self._accepted and pair.record is not None and pair.record.verdict == "failed":
            raise SampleError(f"{pair.identifier}: left out, this edit failed its checks: {pair.record.reason}")
        return pair

    def control(self, sample: Sample, seed: int = 0) -> Pair | None:
        """The control edit of the sample, whatever its checks say."""
        return self._editor.control(sample, seed)

    def release(self) -> None:
        """Free what the editor has loaded."""
        self._editor.release()
