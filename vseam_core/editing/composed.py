"""From a painter to an editor: plan, mask, paint at the painter's size, put back every other pixel, check, keep.

Outside the grown mask the edited image is the original, exactly. An edit that lies in the folder already is used as it is.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vseam_core.api.interfaces import EditedImages, Editor, EditPlan, EditPlanner, MaskProvider, Painter
from vseam_core.api.types import EditRecord, Pair, Sample
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.datasets.answers import normal_answer
from vseam_core.datasets.images import FileImage
from vseam_core.editing.checks import judge, measure_edit
from vseam_core.editing.controls import elsewhere, repaint_plan
from vseam_core.editing.folder import EditFolder, StoredEdit
from vseam_core.editing.masks import (
    MaskFile,
    blending_weights,
    check_boxes,
    checked_mask,
    composited,
    dilated,
    mask_boxes,
    mask_digest,
    mask_image,
    resized_mask,
)
from vseam_core.editing.model_check import ModelCheck
from vseam_core.errors import PluginError, SampleError
from vseam_core.runs.identity import component_of, image_digest, unit_key

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 50_000_000
"""An image with more pixels is skipped: an edit holds several copies of it."""
Control = Literal["", "repaint", "elsewhere"]
_YES_NO = {"yes": "No", "no": "Yes"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """One edit that is planned: which pixels may change, how the painted image is made, and what identifies it.

    `core` is the mask before it was grown. `weights` says how much of the painted image each pixel takes.
    """

    plan: EditPlan
    mask: np.ndarray
    weights: np.ndarray
    paint: Callable[[], Image]
    identity: Mapping[str, object]
    control: Control = ""


class Recipe(ABC):
    """How a sample becomes a job."""

    name: str
    planner: str = ""
    mask_provider: str = ""
    makes_controls: bool = False

    @abstractmethod
    def job(self, sample: Sample, clean: Image, seed: int) -> Job:
        """The job of a sample's edit. Raises `SampleError` where it cannot be edited."""

    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """Every plugin that takes part, with its version and options, and the settings that change the edited image."""

    def controls(self, sample: Sample, clean: Image, job: Job, seed: int) -> Iterator[Job]:
        """The control jobs of an edit."""
        return iter(())

    def release(self) -> None:  # noqa: B027  (not every recipe has something loaded)
        """Free what is loaded."""


class PaintedRecipe(Recipe):
    """A painter with its planner and mask provider."""

    def __init__(self, painter: Painter, planner: EditPlanner, masks: MaskProvider, choice: EditorChoice, folder: EditFolder) -> None:
        self._painter, self._planner, self._masks, self._choice, self._folder = painter, planner, masks, choice, folder
        self.name, self.planner, self.mask_provider = choice.name, choice.planner, choice.mask
        self.makes_controls = painter.is_cheap if choice.controls is None else choice.controls

    def job(self, sample: Sample, clean: Image, seed: int) -> Job:
        """Plan, find the mask (kept by what it was asked for), grow it."""
        plan = self._planner.plan(sample)
        check_boxes(plan.boxes, clean.size, f"{sample.identifier}: planner {self.planner}")
        request = unit_key(
            image=image_digest(clean),
            plan={"boxes": plan.boxes, "find": plan.find or plan.source_term},
            provider=[self.mask_provider, self._masks.version, dict(component_of(self._masks, self._choice.mask_options).options)],
        )
        origin = f"{sample.identifier}: mask provider {self.mask_provider}"
        core = self._folder.mask(request, lambda: checked_mask(self._masks.mask(sample, plan), clean.size, origin))
        return self._painting(clean, plan, core, seed)

    def identity(self) -> Mapping[str, object]:
        """Painter, planner and mask provider, and how the mask is grown and blended."""
        choice = self._choice
        return {
            "painter": component_of(self._painter, choice.options, choice.name),
            "planner": component_of(self._planner, choice.planner_options, choice.planner),
            "mask": component_of(self._masks, choice.mask_options, choice.mask),
            "dilation": choice.dilation,
            "feather": choice.feather,
        }

    def controls(self, sample: Sample, clean: Image, job: Job, seed: int) -> Iterator[Job]:
        """Repainting what is there, and painting where nothing is asked about."""
        yield replace(self._painting(clean, repaint_plan(job.plan), job.mask, seed, grown=True), control="repaint")
        found = elsewhere(sample, job.plan, job.mask, seed)
        if found is not None:
            yield replace(self._painting(clean, *found, seed, grown=True), control="elsewhere")

    def release(self) -> None:
        """Free the painter's and the mask provider's models."""
        self._painter.release()
        self._masks.release()

    def _painting(self, clean: Image, plan: EditPlan, core: np.ndarray, seed: int, grown: bool = False) -> Job:
        mask = core if grown else dilated(core, self._choice.dilation)
        weights = blending_weights(mask, core, self._choice.feather)
        # Images of one study get seeds of their own: one seed would give all of them the same noise.
        own_seed = int(unit_key(image=image_digest(clean), seed=seed)[:8], 16) & 0x7FFFFFFF
        identity = {
            "painter": [self.name, self._painter.version, dict(component_of(self._painter, self._choice.options).options)],
            "core": mask_digest(core),
            "feather": self._choice.feather,
            "seed": own_seed,
        }
        return Job(plan, mask, weights, lambda: self._paint(clean, mask, plan, own_seed), identity)

    def _paint(self, clean: Image, mask: np.ndarray, plan: EditPlan, seed: int) -> Image:
        """The painter's image, brought to the size of the original."""
        from PIL import Image as images

        size = self._painter.working_size(clean.size)
        working = clean if size == clean.size else clean.resize(size, images.Resampling.LANCZOS)
        painted = self._painter.paint(working, resized_mask(mask, size), plan, seed)
        if painted.size != size:
            sizes = [f"{width}×{height}" for width, height in (painted.size, size)]
            raise PluginError(f"painter {self.name!r} returned an image of {sizes[0]} pixels for one of {sizes[1]}")
        painted = painted.convert("RGB")
        return painted if size == clean.size else painted.resize(clean.size, images.Resampling.LANCZOS)


class ImagesRecipe(Recipe):
    """Images that were edited elsewhere: plan and mask come from them."""

    def __init__(self, images: EditedImages, choice: EditorChoice) -> None:
        self._images, self._choice = images, choice
        self.name = choice.name
        self.planner = self.mask_provider = choice.name

    def identity(self) -> Mapping[str, object]:
        """The images' plugin, and how the mask is grown and blended."""
        choice = self._choice
        images = component_of(self._images, choice.options, choice.name)
        return {"pictures": images, "dilation": choice.dilation, "feather": choice.feather}

    def job(self, sample: Sample, clean: Image, seed: int) -> Job:
        """The edited image at the size of the original, and the mask that it brings or shows."""
        from PIL import Image as images

        plan, edited = self._images.plan(sample), self._images.image(sample).convert("RGB")
        raw = edited if edited.size == clean.size else edited.resize(clean.size, images.Resampling.LANCZOS)
        core = checked_mask(self._images.mask(sample, clean, raw), clean.size, f"{sample.identifier}: editor {self.name}")
        mask = dilated(core, self._choice.dilation)
        weights = blending_weights(mask, core, self._choice.feather) if self._images.composites else np.ones(mask.shape)
        identity = {
            "pictures": [self.name, self._images.version, self._images.composites],
            "edited": image_digest(edited),
            "core": mask_digest(core),
            "feather": self._choice.feather,
        }
        return Job(plan, mask, weights, lambda: raw, identity)


class ComposedEditor(Editor):
    """An editor out of a recipe: makes pairs, checks them and keeps them in a folder."""

    def __init__(self, recipe: Recipe, folder: EditFolder, model_check: ModelCheck | None = None) -> None:
        self.name, self._recipe, self._folder, self._model_check = recipe.name, recipe, folder, model_check

    def identity(self) -> Mapping[str, object]:
        """What the edits are made of: painter, planner and masks, or images."""
        return self._recipe.identity()

    @property
    def makes_controls(self) -> bool:
        """Whether control edits are made."""
        return self._recipe.makes_controls

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        """The pair of a sample, made now or found in the folder. Raises `SampleError` with the reason where there is none."""
        clean = _loaded(sample)
        return self._pair(sample, clean, self._recipe.job(sample, clean, seed), seed)

    def control(self, sample: Sample, seed: int = 0) -> Pair | None:
        """The edit of something not asked about, where controls are made and there is room for one."""
        return next((pair for pair in self.controls(sample, seed) if pair.record and pair.record.control == "elsewhere"), None)

    def controls(self, sample: Sample, seed: int = 0) -> list[Pair]:
        """Every control edit of a sample; those that cannot be made are left out, with the reason in the log."""
        if not self.makes_controls:
            return []
        pairs = []
        try:
            clean = _loaded(sample)
            for job in self._recipe.controls(sample, clean, self._recipe.job(sample, clean, seed), seed):
                try:
                    pairs.append(self._pair(sample, clean, job, seed))
                except SampleError as error:
                    _log.info("%s: no control edit (%s): %s", sample.identifier, job.control, error)
        except SampleError as error:
            _log.info("%s: no control edits: %s", sample.identifier, error)
        return pairs

    def release(self) -> None:
        """Free the models of painter and mask provider."""
        self._recipe.release()

    def _pair(self, sample: Sample, clean: Image, job: Job, seed: int) -> Pair:
        answer = sample.answer if job.control else _new_answer(sample, job.plan)
        key = unit_key(
            image=image_digest(clean),
            plan=_plain_plan(job.plan),
            mask=mask_digest(job.mask),
            control=job.control,
            **job.identity,
        )
        stored = self._folder.find(self.name, sample.identifier, key) or self._make(sample, clean, job, key, answer)
        return self._found(sample, self._checked_by_model(stored, job), job, answer)

    def _make(self, sample: Sample, clean: Image, job: Job, key: str, answer: str) -> StoredEdit:
        raw = job.paint()
        corrupt = composited(clean, raw, job.weights)
        checks = measure_edit(clean, corrupt, raw, job.mask)
        entry = {
            "sample": sample.identifier,
            "editor": self.name,
            "planner": self._recipe.planner,
            "mask_provider": self._recipe.mask_provider,
            "control": job.control,
            "question": sample.question,
            "clean_answer": sample.answer,
            "corrupt_answer": answer,
            "plan": _plain_plan(job.plan),
            "made_from": dict(job.identity),
            "checks": checks,
        }
        images = {"clean": clean, "image": corrupt, "mask": mask_image(job.mask)}
        return self._folder.save(self.name, sample.identifier, key, images, entry)

    def _checked_by_model(self, stored: StoredEdit, job: Job) -> StoredEdit:
        check = self._model_check
        if check is None or job.control or stored.entry.get("checked_by") == check.name:
            return stored
        more = check.measure(FileImage(stored.clean).load(), FileImage(stored.image).load(), job.mask, job.plan)
        return self._folder.update(stored, checks={**stored.entry["checks"], **more}, checked_by=check.name)

    def _found(self, sample: Sample, stored: StoredEdit, job: Job, answer: str) -> Pair:
        checks = dict(stored.entry["checks"])
        verdict, reason = judge(checks, job.control)
        record = EditRecord(
            key=stored.entry["key"],
            planner=self._recipe.planner,
            mask_provider=self._recipe.mask_provider,
            prompt=job.plan.prompt or job.plan.region_prompt,
            confidence=job.plan.confidence,
            verdict=verdict,
            reason=reason,
            control=job.control,
            clean_path=str(stored.clean),
            image_path=str(stored.image),
            mask_path=str(stored.mask),
            plan=_plain_plan(job.plan),
        )
        kind: Literal["edit", "control"] = "control" if job.control else "edit"
        competitor = sample.competitor if job.control else sample.answer
        corrupt = replace(
            sample,
            identifier=f"{sample.identifier}/{self.name}-{kind}-{record.key[:12]}",
            image=FileImage(stored.image),
            answer=answer,
            competitor=competitor,
        )
        clean = sample if job.control else replace(sample, competitor=answer)
        return Pair(
            clean=clean,
            corrupt=corrupt,
            boxes=mask_boxes(job.mask),
            editor=self.name,
            source_term=job.plan.source_term,
            target_term=job.plan.target_term,
            kind=kind,
            checks=checks,
            mask=MaskFile(stored.mask),
            record=record,
        )


def _loaded(sample: Sample) -> Image:
    """The sample's image in RGB. Raises `SampleError` for one that cannot be read or has too many pixels."""
    image = sample.image.load()
    if image.width * image.height > MOST_PIXELS:
        raise SampleError(f"{sample.identifier}: the image has {image.width}×{image.height} pixels, more than {MOST_PIXELS:,}")
    return image.convert("RGB")


def _new_answer(sample: Sample, plan: EditPlan) -> str:
    """The true answer after the edit. Raises `SampleError` where it is unknown or the same as before."""
    answer = plan.target_answer or _YES_NO.get(sample.answer.strip().lower()) or sample.competitor
    if answer is None:
        raise SampleError(f"{sample.identifier}: the plan does not say what the answer to {sample.question!r} will be after the edit")
    answer = _as_option(sample, answer)
    if answer.strip().lower() == sample.answer.strip().lower():
        raise SampleError(f"{sample.identifier}: the edit would leave the answer {sample.answer!r} as it is")
    return answer


def _as_option(sample: Sample, answer: str) -> str:
    """Of a multiple choice question the letter of an answer. Raises `SampleError` where it is none of the options."""
    if not sample.options or answer in sample.options:
        return answer
    texts = zip(sample.options, sample.metadata.get("options", ()), strict=False)
    letters = [letter for letter, text in texts if normal_answer(text) == normal_answer(answer)]
    if not letters:
        raise SampleError(f"{sample.identifier}: the answer after the edit, {answer!r}, is none of the options")
    return letters[0]


def _plain_plan(plan: EditPlan) -> dict[str, Any]:
    return {**asdict(plan), "boxes": [list(map(float, box)) for box in plan.boxes]}


def pairs_of_sample(editor: Editor, sample: Sample, seed: int) -> Sequence[Pair]:
    """The edit of a sample and the control edits that its editor makes. Raises `SampleError` where there is no edit."""
    pair = editor.edit(sample, seed)
    return [pair, *(editor.controls(sample, seed) if isinstance(editor, ComposedEditor) else ())]
