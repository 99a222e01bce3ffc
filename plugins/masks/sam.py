"""Masks of things by Segment Anything (Kirillov et al. 2023), in annotated boxes or in those that Grounding DINO finds by words.

SAM 1 has image processors for Pillow; SAM 2 and 3 need torchvision, which changes other processors when it is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.interfaces import EditPlan, MaskProvider
from vseam_core.api.types import Box, Sample
from vseam_core.config.loading import HUB_TIMEOUT_SECONDS
from vseam_core.errors import SampleError, VseamError
from vseam_core.huggingface.fingerprints import weights_hash
from vseam_plugins.masks.box import boxes_of

if TYPE_CHECKING:
    from PIL.Image import Image

SAM = "facebook/sam-vit-base"
GROUNDING_DINO = "IDEA-Research/grounding-dino-tiny"
_SIZES = {SAM: "about 0.4 GB", GROUNDING_DINO: "about 0.7 GB"}


class SamMask(MaskProvider):
    """What SAM segments in the boxes of a plan. `source` is a checkpoint folder or a hub id, loaded on first use.

    Of the three masks that SAM proposes for a box the one with the highest predicted quality counts. Raises `VseamError` in one line
    for a checkpoint that is not there, is of another kind or lacks weights.
    """

    name = "sam"

    def __init__(self, source: str = SAM, device: str = "cpu", local_files_only: bool = False) -> None:
        self.source, self.device, self.local_files_only = source, device, local_files_only

    def identity(self) -> Mapping[str, object]:
        """The hash of the weights."""
        return {"weights": weights_hash(self._sam[0])}

    def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
        """The union of what is segmented in each box. Raises `SampleError` without boxes, or where nothing is segmented."""
        image = sample.image.load()
        return self._segmented(sample, image, boxes_of(sample, plan, image.size, self.name))

    def release(self) -> None:
        """Let go of the weights."""
        self.__dict__.pop("_sam", None)

    def _segmented(self, sample: Sample, image: Image, boxes: Sequence[Box]) -> np.ndarray:
        import torch

        module, processor = self._sam
        found = np.zeros((image.height, image.width), dtype=bool)
        for box in boxes:
            inputs = processor(images=image, input_boxes=[[list(map(float, box))]], return_tensors="pt").to(module.device)
            with torch.inference_mode():
                output = module(**inputs, multimask_output=True)
            masks = processor.image_processor.post_process_masks(
                output.pred_masks.cpu(), inputs["original_sizes"].cpu(), inputs["reshaped_input_sizes"].cpu()
            )
            best = int(output.iou_scores[0, 0].argmax())
            found |= masks[0][0, best].numpy().astype(bool)
        if not found.any():
            raise SampleError(f"{sample.identifier}: SAM segments nothing in the boxes")
        return found

    @cached_property
    def _sam(self) -> tuple[Any, Any]:
        from transformers import SamImageProcessorPil, SamModel, SamProcessor

        module = load_module(self.name, SamModel, self.source, "sam", self.local_files_only)
        processor = SamImageProcessorPil.from_pretrained(self.source, local_files_only=self.local_files_only)
        return module.to(self.device), SamProcessor(processor)


class GroundedSamMask(SamMask):
    """Grounding DINO (Liu et al. 2023) finds boxes of the words that a plan says to find, SAM segments them.

    A plan's own boxes come first: words are looked for only where it has none. `threshold` is the least score of a box, `most` how many of
    the best ones count.
    """

    name = "grounded-sam"

    def __init__(
        self,
        source: str = SAM,
        detector: str = GROUNDING_DINO,
        threshold: float = 0.3,
        most: int = 3,
        device: str = "cpu",
        local_files_only: bool = False,
    ) -> None:
        super().__init__(source, device, local_files_only)
        if not 0 <= threshold <= 1 or most < 1:
            raise VseamError(f"mask {self.name!r}: expected a threshold from 0 to 1 and at least one box, found {threshold!r} and {most!r}")
        self.detector, self.threshold, self.most = detector, threshold, most

    def identity(self) -> Mapping[str, object]:
        """The hashes of both models' weights, and which boxes count."""
        found = {"detector": weights_hash(self._detector[0]), "threshold": self.threshold, "most": self.most}
        return {**super().identity(), **found}

    def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
        """The union of what is segmented. Raises `SampleError` where no box is found."""
        image = sample.image.load()
        words = (plan.find or plan.source_term).strip().lower()
        boxes = boxes_of(sample, plan, image.size, self.name) if plan.boxes else self.boxes(image, words)
        if not boxes:
            raise SampleError(f"{sample.identifier}: Grounding DINO finds no {words!r} with a score of {self.threshold:g} or more")
        return self._segmented(sample, image, boxes)

    def boxes(self, image: Image, words: str) -> tuple[Box, ...]:
        """The best boxes of what the words name, `(x0, y0, x1, y1)` in pixels, cut at the image's edge."""
        import torch

        module, processor = self._detector
        inputs = processor(images=image, text=f"{words}.", return_tensors="pt").to(module.device)
        with torch.inference_mode():
            output = module(**inputs)
        size = [(image.height, image.width)]
        (found,) = processor.post_process_grounded_object_detection(
            output, inputs["input_ids"], threshold=self.threshold, text_threshold=self.threshold, target_sizes=size
        )
        order = found["scores"].argsort(descending=True)[: self.most].tolist()
        limits = np.array([image.width, image.height] * 2, dtype=float)
        boxes = [tuple(np.clip(found["boxes"][index].cpu().numpy().astype(float), 0, limits).tolist()) for index in order]
        return tuple(box for box in boxes if box[0] < box[2] and box[1] < box[3])

    def release(self) -> None:
        """Let go of both models' weights."""
        super().release()
        self.__dict__.pop("_detector", None)

    @cached_property
    def _detector(self) -> tuple[Any, Any]:
        from transformers import AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil, GroundingDinoProcessor

        module = load_module(self.name, GroundingDinoForObjectDetection, self.detector, "grounding-dino", self.local_files_only)
        processor = GroundingDinoImageProcessorPil.from_pretrained(self.detector, local_files_only=self.local_files_only)
        tokenizer = AutoTokenizer.from_pretrained(self.detector, local_files_only=self.local_files_only)
        return module.to(self.device), GroundingDinoProcessor(processor, tokenizer)


def _can_be_asked_for(source: str) -> bool:
    """Whether the hub answers. Without a connection the library would try five times, and say so each time, before it reads its cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

    try:
        HfApi().model_info(source, timeout=HUB_TIMEOUT_SECONDS)
    except RepositoryNotFoundError:
        return True
    except (HTTPError, OSError):
        return False
    return True


def load_module(mask: str, kind: Any, source: str, model_type: str, local_files_only: bool) -> Any:
    """A model in evaluation mode. Raises `VseamError` in one line: not there, of another kind, or without all of its weights."""
    from transformers import AutoConfig

    from vseam_plugins.models.loading import quietly

    local_files_only = local_files_only or not (Path(source).is_dir() or _can_be_asked_for(source))
    try:
        with quietly(True):
            found_type = AutoConfig.from_pretrained(source, local_files_only=local_files_only).model_type
            if found_type != model_type:
                raise VseamError(f"mask {mask!r}: {source} holds a {found_type!r} model, expected {model_type}")
            module, report = kind.from_pretrained(
                source, dtype="float32", output_loading_info=True, use_safetensors=True, local_files_only=local_files_only
            )
    except VseamError:
        raise
    except (OSError, ValueError) as error:
        what = "the folder cannot be read" if Path(source).is_dir() else "it is neither a folder nor to be had from the hub"
        known = f"; get {source} ({size})" if (size := _SIZES.get(source)) else f"; get {SAM} for SAM or {GROUNDING_DINO} for the detector"
        reason = " ".join(str(error).split())[:160]
        raise VseamError(f"mask {mask!r}: no weights at {source}: {what}{known} and give the folder as an option ({reason})") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise VseamError(f"mask {mask!r}: {source} lacks {len(missing)} weights, such as {missing[0]}")
    return module.eval().requires_grad_(False)
