"""Images that were edited elsewhere: the user's own, or the published ones, found by a path pattern."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.interfaces import EditedImages, EditPlan
from vseam_core.api.types import Sample
from vseam_core.datasets.images import FileImage
from vseam_core.editing.differences import difference_mask
from vseam_core.editing.masks import MaskFile
from vseam_core.errors import SampleError, VseamError, did_you_mean

if TYPE_CHECKING:
    from PIL.Image import Image

_FIELDS = ("question_id", "image_id", "dataset", "category", "pool", "split", "image_stem")
_UNSAFE = re.compile(r"[/\\\x00-\x1f]")


class PrecomputedImages(EditedImages):
    """Edited images in a folder, one per sample.

    `images` is a pattern below `folder`, such as the published `corrupt/{question_id}/{question_id}.png`; its fields are those of the
    sample (`question_id`, `image_id`, `dataset`, `category`, `pool`, `split`), `image_stem` (the name of the original's file
    without its ending), and any field of the sample's metadata. `masks` is a pattern for mask images (white where it was edited);
    without it the region is found from the difference (`threshold` levels of 255: see `difference_mask`).

    `composites` puts the original's pixels back outside the mask; without it models see the images as they are, and the
    check of equality outside the mask fails. `terms` names the metadata fields that hold source and target term, `answer` the one that
    holds the edited answer (yes/no questions need none). Raises `VseamError` for a pattern that cannot be used.
    """

    name = "precomputed"

    def __init__(
        self,
        images: str,
        folder: str = ".",
        masks: str | None = None,
        composites: bool = True,
        threshold: float | None = None,
        terms: tuple[str, str] | list[str] = ("source_term", "target_term"),
        answer: str = "corrupt_answer",
    ) -> None:
        self._folder, self._images, self._masks, self._threshold = Path(folder), images, masks, threshold
        self.composites = composites
        if len(terms) != 2:
            raise VseamError(f"precomputed: terms are {list(terms)}, expected two metadata fields: of the source and of the target term")
        self._source, self._target = terms
        self._answer = answer
        for pattern in filter(None, (images, masks)):
            _check_pattern(pattern)
        if not self._folder.is_dir():
            raise VseamError(f"precomputed: there is no folder {self._folder}; name the one that holds the edited images by `folder`")

    def plan(self, sample: Sample) -> EditPlan:
        """What the metadata says about the edit; the words are empty where it says nothing."""
        source, target = (str(sample.metadata.get(name) or "") for name in (self._source, self._target))
        answer = sample.metadata.get(self._answer)
        return EditPlan(source, target, "", None if answer is None else str(answer), level=sample.level, region_prompt=target)

    def image(self, sample: Sample) -> Image:
        """The edited image. Raises `SampleError` where it is missing or cannot be read."""
        path = self._place(self._images, sample)
        if not path.exists():
            raise SampleError(f"{sample.identifier}: no edited image at {path}, which the options folder and images say")
        return FileImage(path).load()

    def mask(self, sample: Sample, clean: Image, edited: Image) -> np.ndarray:
        """The mask's file, or where the two images differ. Raises `SampleError`."""
        if self._masks is not None:
            return MaskFile(self._place(self._masks, sample)).load()
        try:
            return difference_mask(clean, edited, self._threshold)
        except SampleError as error:
            raise SampleError(f"{sample.identifier}: {error}") from None

    def _place(self, pattern: str, sample: Sample) -> Path:
        """The path that a pattern gives for a sample, below the folder; what a sample says never leaves it."""
        values = _Values(sample)
        path = self._folder / pattern.format_map(values)
        if ".." in path.relative_to(self._folder).parts:
            raise SampleError(f"{sample.identifier}: {path} lies outside {self._folder}")
        return path


class _Values(Mapping[str, str]):
    """A sample's fields as parts of a path."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def __getitem__(self, name: str) -> str:
        sample = self._sample
        if name == "image_stem":
            found: Any = Path(str(getattr(sample.image, "path", ""))).stem or None
        else:
            found = getattr(sample, name) if name in _FIELDS else sample.metadata.get(name)
        if found is None:
            known = [*_FIELDS, *(key for key, value in sample.metadata.items() if isinstance(value, str | int))]
            raise SampleError(f"{sample.identifier}: has no {name!r} for the path of its image; {did_you_mean(name, known)}")
        # Datasets such as `gqa/color` have a slash in their own name, which is ours and not the sample's.
        text = str(found).replace("/", "-") if name == "dataset" else str(found)
        if not text or text.startswith(".") or _UNSAFE.search(text):
            raise SampleError(f"{sample.identifier}: {name} {text!r} cannot be part of a path")
        return text

    def __iter__(self) -> Any:
        return iter(_FIELDS)

    def __len__(self) -> int:
        return len(_FIELDS)


def _check_pattern(pattern: str) -> None:
    """Raise `VseamError` for a pattern that names no field, holds format tricks, or leaves its folder."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise VseamError(f"precomputed: the pattern {pattern!r} cannot be read: {error}") from None
    if not fields or any(not name.isidentifier() or spec or conversion for name, spec, conversion in fields):
        raise VseamError(f"precomputed: the pattern {pattern!r}: expected fields such as {{question_id}}, and nothing else in braces")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise VseamError(f"precomputed: the pattern {pattern!r} leaves its folder; name the folder by `folder`")
