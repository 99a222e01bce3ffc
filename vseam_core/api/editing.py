"""The abstract classes of what edits images: editors, and what they are composed of (planner, mask provider, painter)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vseam_core.api.types import Box, Level, Pair, Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


class Editor(ABC):
    """Edits one concept of a sample's image so that the true answer changes.

    Raise `version` when the same sample and seed give other pixels. `identity` holds whatever else changes them (options).
    """

    name: str
    version: int = 1

    @abstractmethod
    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        """The clean sample beside its corrupt twin. Raises `SampleError` with the reason where this sample cannot be edited."""

    def control(self, sample: Sample, seed: int = 0) -> Pair | None:
        """An edit of the same size that leaves the answer as it is, or None where there is none."""
        return None

    def identity(self) -> Mapping[str, object]:
        """Everything about this editor that changes its edits: part of the identity of whatever uses them."""
        return {}

    def release(self) -> None:  # noqa: B027  (most have nothing to free)
        """Free what the editor has loaded; the next edit loads it again."""


@dataclass(frozen=True)
class EditPlan:
    """What to change in an image: the concept, what it becomes, where, and the words an image generator is given.

    `boxes` (pixels of the image) are what is to be painted over, empty where a mask provider has to find it by itself: by the
    words of `find` ("brown horses"), or `source_term` where that is empty.
    `region_prompt` describes the edited region alone ("a green car"), `prompt` the same for the whole image where that differs.
    `target_answer` is the true answer after the edit, None where the plan cannot know it. `confidence` from 0 to 1 says how sure the
    planner is that painting this region makes the edit true; `reason` says why it is low.
    """

    source_term: str
    target_term: str
    prompt: str
    target_answer: str | None
    confidence: float = 1.0
    level: Level = "object"
    boxes: tuple[Box, ...] = ()
    region_prompt: str = ""
    negative_prompt: str = ""
    reason: str = ""
    find: str = ""


class EditPlanner(ABC):
    """Decides which concept of a question to change, and into what."""

    name: str
    version: ClassVar[int] = 1

    @abstractmethod
    def plan(self, sample: Sample) -> EditPlan:
        """The plan of one edit. Raises `SampleError` where the question names nothing that can be changed."""

    def identity(self) -> Mapping[str, object]:
        """Everything about this planner that changes its plans: part of the identity of whatever uses their edits."""
        return {}


class MaskProvider(ABC):
    """Finds the pixels that an edit may change.

    `identity` holds whatever changes the mask (padding, weights hash, thresholds), so that a mask made once is found again.
    """

    name: str
    version: ClassVar[int] = 1

    @abstractmethod
    def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
        """A boolean array `[height, width]`, True where the editor may paint. Raises `SampleError` when nothing is found."""

    def identity(self) -> Mapping[str, object]:
        """Everything about this provider that changes its masks: part of every mask's identity."""
        return {}

    def release(self) -> None:  # noqa: B027  (most have nothing to free)
        """Free what the provider has loaded; the next mask loads it again."""


class Painter(ABC):
    """Paints inside a mask of an image what a plan says. An editor plugin supplies either an `Editor` or a `Painter`.

    A painter returns the image as its method made it, at the size that it was given; the core makes it an editor: it plans, masks,
    dilates the mask, resizes, puts back every original pixel outside the mask, checks and stores. `identity` holds
    whatever changes the pixels (weights hash, scheduler, steps), so that an edit made once is found again.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    # Whether the core's defaults should make control edits too: where painting costs next to nothing.
    is_cheap: ClassVar[bool] = False
    # Whether it paints what the plan names; noise, blur and grey only destroy what is there.
    follows_plan: ClassVar[bool] = True

    @abstractmethod
    def paint(self, image: Image, mask: np.ndarray, plan: EditPlan, seed: int) -> Image:
        """The picture (RGB) with the mask (boolean `[height, width]`, True where it may paint) repainted, at the same size.

        The same seed gives the same pixels. Raises `SampleError` where this picture or plan cannot be painted.
        """

    def identity(self) -> Mapping[str, object]:
        """Everything about this painter that changes its pixels: part of every edit's identity."""
        return {}

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size (width, height) that an image of `size` is brought to before painting; by default as it is."""
        return size

    def release(self) -> None:  # noqa: B027  (most have nothing to free)
        """Free what the painter has loaded; the next image loads it again."""


class EditedImages(ABC):
    """Images that were edited elsewhere: the third kind of thing that an editor plugin supplies.

    The core resizes them, puts back every original pixel outside the mask where `composites` says so, checks and stores.
    """

    name: str
    version: ClassVar[int] = 1
    composites: bool = True

    @abstractmethod
    def plan(self, sample: Sample) -> EditPlan:
        """What was edited, as far as it is known. Raises `SampleError`."""

    @abstractmethod
    def image(self, sample: Sample) -> Image:
        """The edited image of a sample, whatever its size. Raises `SampleError` where there is none or it cannot be read."""

    @abstractmethod
    def mask(self, sample: Sample, clean: Image, edited: Image) -> np.ndarray:
        """The region that was edited, boolean `[height, width]`; both images have the same size. Raises `SampleError`."""
