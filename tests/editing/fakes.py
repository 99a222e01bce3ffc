"""A painter, a planner and a mask provider that need no weights, and samples of drawn images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image

from vseam_core.api.interfaces import EditPlan, EditPlanner, MaskProvider, Painter
from vseam_core.api.types import Sample, SceneObject
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.editing.composed import ComposedEditor, PaintedRecipe
from vseam_core.editing.folder import EditFolder
from vseam_core.errors import SampleError
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import EditorRecord, EditPlannerRecord, MaskProviderRecord

SIZE = (48, 36)
BOX = (10.0, 8.0, 26.0, 22.0)


@dataclass(frozen=True)
class DrawnImage:
    """Noise of a seed, so that every image is another one and every pixel can be told apart."""

    seed: int = 0
    size: tuple[int, int] = SIZE

    def load(self) -> Image.Image:
        pixels = np.random.default_rng(self.seed).integers(60, 120, (self.size[1], self.size[0], 3))
        return Image.fromarray(pixels.astype(np.uint8))


def sample(number: int = 0, **changes: object) -> Sample:
    fields: dict[str, object] = {
        "identifier": f"drawn/test/plain/{number}",
        "dataset": "drawn",
        "question_id": str(number),
        "image_id": f"image-{number}",
        "image": DrawnImage(number),
        "question": "Is the car red?",
        "answer": "Yes",
        "competitor": "No",
        "level": "attribute",
        "category": "color",
        "pool": "test",
        "objects": (SceneObject("car", BOX, ("red",)),),
    }
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]


class FakePainter(Painter):
    """Paints everything it is given in one colour, far outside the mask too, as generators do; counts its calls."""

    name: ClassVar[str] = "fake"
    is_cheap = True

    def __init__(self, strength: int = 1, working: tuple[int, int] | None = None, outside: int = 3) -> None:
        self.strength, self.working, self.outside = strength, working, outside
        self.calls: list[tuple[tuple[int, int], EditPlan, int]] = []
        self.released = 0

    def paint(self, image: Image.Image, mask: np.ndarray, plan: EditPlan, seed: int) -> Image.Image:
        if plan.target_term == "unpaintable":
            raise SampleError("this cannot be painted")
        assert mask.shape == (image.height, image.width)
        assert mask.dtype == bool
        self.calls.append((image.size, plan, seed))
        pixels = np.asarray(image).astype(int) + self.outside
        pixels[mask] = np.random.default_rng(seed).integers(140, 150, 3)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def identity(self) -> Mapping[str, object]:
        return {"strength": self.strength, "outside": self.outside}

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.working or size

    def release(self) -> None:
        self.released += 1


class FakePlanner(EditPlanner):
    name = "fake"

    def __init__(self, boxes: tuple[tuple[float, ...], ...] = (BOX,), answer: str | None = "No") -> None:
        self.boxes, self.answer = boxes, answer

    def plan(self, sample: Sample) -> EditPlan:
        if "car" not in sample.question:
            raise SampleError(f"{sample.identifier}: no rule reads {sample.question!r}")
        plan = EditPlan("red", "green", "a green car on a road", self.answer, 0.75, "attribute", self.boxes, "a green car")  # type: ignore[arg-type]
        return replace(plan, target_term="unpaintable") if "unpaintable" in sample.question else plan


class FakeMask(MaskProvider):
    name = "fake"

    def __init__(self, trim: int = 0, empty: bool = False) -> None:
        self.trim, self.empty, self.calls = trim, empty, 0

    def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
        self.calls += 1
        width, height = sample.image.load().size
        mask = np.zeros((height - self.trim, width), dtype=bool)
        for x0, y0, x1, y1 in () if self.empty else plan.boxes:
            mask[int(y0) : int(y1), int(x0) : int(x1)] = True
        return mask


class FakePlugin:
    """A local plugin with all three."""

    @hookimpl
    def vseam_editors(self) -> Iterator[EditorRecord]:
        yield EditorRecord(name="fake", summary="Paints one colour.", factory=FakePainter)

    @hookimpl
    def vseam_edit_planners(self) -> Iterator[EditPlannerRecord]:
        yield EditPlannerRecord(name="fake", summary="Plans one edit.", factory=FakePlanner)

    @hookimpl
    def vseam_mask_providers(self) -> Iterator[MaskProviderRecord]:
        yield MaskProviderRecord(name="fake", summary="Masks boxes.", factory=FakeMask)


def composed(
    folder: EditFolder,
    painter: Painter | None = None,
    planner: EditPlanner | None = None,
    masks: MaskProvider | None = None,
    **choice: object,
) -> ComposedEditor:
    chosen = EditorChoice(**{"name": "fake", "planner": "fake", "mask": "fake", "dilation": 3, "feather": 2, **choice})  # type: ignore[arg-type]
    recipe = PaintedRecipe(painter or FakePainter(), planner or FakePlanner(), masks or FakeMask(), chosen, folder)
    return ComposedEditor(recipe, folder)
