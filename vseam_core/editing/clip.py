"""Whether an edit is seen: how much more a CLIP model finds the new concept than the old one, before and after.

The margin is cos(image, text of the new concept) − cos(image, text of the old one) on the crop around the mask (Radford et al. 2021
for the model). An edit that can be seen raises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.interfaces import EditPlan
from vseam_core.editing.controls import repaint_plan
from vseam_core.editing.model_check import ModelCheck
from vseam_core.errors import VseamError

if TYPE_CHECKING:
    from PIL.Image import Image

_PADDING = 0.1
_TEXT = "a photo of {}"


class ClipMargin(ModelCheck):
    """The margins of a CLIP checkpoint (a folder, or a hub id in the local cache; safetensors only).

    It is loaded on first use and run on the processor, not on the GPU. Raises `VseamError` for a checkpoint that is not there, is no CLIP
    model, or lacks weights.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.name = f"clip {source}"

    def measure(self, clean: Image, corrupt: Image, mask: np.ndarray, plan: EditPlan) -> Mapping[str, float]:
        """`clip_margin_before` and `clip_margin_after`; nothing where the plan does not say what is old and what is new."""
        new, old = concept_words(plan)
        if not new or not old or new == old:
            return {}
        box = crop_box(mask)
        before, after = self.margins([clean.crop(box), corrupt.crop(box)], new, old)
        return {"clip_margin_before": before, "clip_margin_after": after}

    def margins(self, images: list[Image], new: str, old: str) -> list[float]:
        """For each image: cos(image, new) − cos(image, old)."""
        import torch

        model, tokenizer, processor = self._loaded
        texts = tokenizer([_TEXT.format(new), _TEXT.format(old)], padding=True, truncation=True, return_tensors="pt")
        pixels = processor([image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = model(**texts, pixel_values=pixels)
        seen, said = (torch.nn.functional.normalize(vectors.double(), dim=-1) for vectors in (output.image_embeds, output.text_embeds))
        similarity = seen @ said.T
        return [float(value) for value in similarity[:, 0] - similarity[:, 1]]

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        from transformers import AutoConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        folder = Path(self._source).expanduser()
        local: Any = {"pretrained_model_name_or_path": str(folder) if folder.is_dir() else self._source, "local_files_only": True}
        try:
            kind = AutoConfig.from_pretrained(**local).model_type
            if kind != "clip":
                raise VseamError(f"--clip {self._source}: expected a CLIP checkpoint, this is one of type {kind!r}")
            if folder.is_dir() and not any(folder.glob("*.safetensors")):
                raise VseamError(f"--clip {self._source}: no weights in safetensors there; pickled ones are not read")
            loaded: Any = CLIPModel.from_pretrained(**local, use_safetensors=True, dtype="float32", output_loading_info=True)
            model, found = loaded
            tokenizer = CLIPTokenizer.from_pretrained(**local)
            # The processor of Pillow: an installed torchvision changes nothing.
            processor = CLIPImageProcessorPil.from_pretrained(**local)
        except VseamError:
            raise
        except Exception as error:  # the library raises anything for damaged files
            where = "the folder" if folder.is_dir() else "neither a folder nor in the hub's local cache"
            raise VseamError(f"--clip {self._source}: cannot be loaded ({where}): {' '.join(str(error).split())[:200]}") from None
        missing = sorted(found["missing_keys"])
        if missing:
            raise VseamError(f"--clip {self._source}: the checkpoint lacks {len(missing)} weights, such as {missing[0]}")
        return model.eval(), tokenizer, processor


def concept_words(plan: EditPlan) -> tuple[str, str]:
    """The new and the old concept in words ("a green car", "a red car")."""
    old = repaint_plan(plan)
    return plan.region_prompt or plan.target_term, old.region_prompt or plan.source_term


def crop_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box around a mask, a tenth larger on each side and as square as the image allows: CLIP sees the middle square only."""
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((int(found[0]), int(found[-1]) + 1) for found in (rows, columns))
    side = round((1 + 2 * _PADDING) * max(bottom - top, right - left))
    x0, x1 = _centred(left, right, side, width)
    y0, y1 = _centred(top, bottom, side, height)
    return x0, y0, x1, y1


def _centred(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """A range of `length` around the middle of another, moved into 0 … limit, or all of that where it is shorter."""
    length = min(length, limit)
    first = min(max(0, (start + end - length) // 2), limit - length)
    return first, first + length
