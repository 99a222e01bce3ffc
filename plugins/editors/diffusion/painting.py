"""What all diffusion painters share: loading when first used, sizes, seeds, memory, and refusing images that are not painted."""

from __future__ import annotations

import importlib.metadata
import inspect
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.interfaces import EditPlan, Painter
from vseam_core.errors import SampleError, VseamError
from vseam_plugins.editors.diffusion.settings import DiffusionSettings
from vseam_plugins.editors.pixels import require_paintable

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LATENT_PIXELS = 8
"""The side in pixels of what one latent value covers, for every pipeline here."""
_LIBRARIES = ("diffusers", "torch", "transformers")


class DiffusionPainter(Painter):
    """A painter around a diffusers pipeline, loaded with the first image and kept until `release`."""

    def __init__(self, settings: DiffusionSettings) -> None:
        self.settings = settings
        self._pipeline: Any = None
        self._weights: str | None = None

    @abstractmethod
    def load(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The pipeline, in eval mode, on the CPU. Raises `VseamError` subclasses for missing files and weights."""

    @abstractmethod
    def run(self, pipeline: Any, image: Image, mask: Image, plan: EditPlan, generator: torch.Generator) -> Any:
        """The pipeline's output for one image and its mask (mode L, 255 where it may paint)."""

    @abstractmethod
    def weights_identity(self) -> str:
        """A hash of the weights and configuration files, or the commit that they come from."""

    def paint(self, image: Image, mask: np.ndarray, plan: EditPlan, seed: int) -> Image:
        """The image as the model paints it, the whole of it, at the same size; the same seed gives the same pixels on one device."""
        import torch
        from PIL import Image as images

        from vseam_plugins.editors.diffusion.loading import quietly

        require_paintable(mask, (image.height, image.width))
        self._require_room(mask)
        words_of(plan, self.name)
        pipeline = self.pipeline()
        generator = torch.Generator("cpu").manual_seed(seed)
        mask_image = images.fromarray(mask.astype(np.uint8) * 255)
        try:
            with torch.inference_mode(), quietly():
                output = self.run(pipeline, image.convert("RGB"), mask_image, plan, generator)
        except torch.OutOfMemoryError as error:
            raise VseamError(f"editor {self.name!r}: not enough GPU memory; {_memory_advice(self.settings)}") from error
        return self._checked(output, image.size)

    def pipeline(self) -> Any:
        """The pipeline, placed as the settings say; loaded now if need be."""
        from vseam_plugins.editors.diffusion.loading import quietly

        if self._pipeline is None:
            device, dtype = self.device(), self.dtype()
            with quietly():
                self._pipeline = self._placed(self.load(device, dtype), device)
        return self._pipeline

    def release(self) -> None:
        """Forget the pipeline, so that its memory is free."""
        self._pipeline = None
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def identity(self) -> Mapping[str, object]:
        """Weights, settings, number format and library versions."""
        self._weights = self._weights or self.weights_identity()
        versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
        return {
            **self.settings.identity(),
            "dtype": str(self.dtype()).removeprefix("torch."),
            "weights": self._weights,
            "versions": versions,
        }

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size at which an image is painted. Raises `SampleError` for images that are too small or too narrow."""
        return self.settings.working_size(size, self.settings.multiple or self.size_multiple())

    def size_multiple(self) -> int:
        """What width and height must be divisible by."""
        processor = getattr(self.pipeline(), "image_processor", None)
        return int(getattr(getattr(processor, "config", None), "vae_scale_factor", LATENT_PIXELS))

    def device(self) -> torch.device:
        """Where the pipeline computes. Raises `VseamError` where there is no such device, or none to offload from."""
        from vseam_plugins.models.load_options import parse_device

        device = parse_device(self.settings.device)
        if self.settings.offload != "none" and device.type == "cpu":
            raise VseamError(f"editor {self.name!r}: offload={self.settings.offload} needs a GPU, but it runs on the CPU; leave it out")
        return device

    def dtype(self) -> torch.dtype:
        """The number format: as asked, or float16 on a GPU and float32 elsewhere. Raises `VseamError` for float16 on the CPU."""
        import torch

        on_cpu = self.device().type == "cpu"
        if self.settings.dtype == "auto":
            return torch.float32 if on_cpu else torch.float16
        if self.settings.dtype == "float16" and on_cpu:
            raise VseamError(f"editor {self.name!r}: float16 is for GPUs; on the CPU use dtype=float32 or bfloat16")
        return getattr(torch, self.settings.dtype)

    def _placed(self, pipeline: Any, device: torch.device) -> Any:
        from vseam_plugins.editors.diffusion.loading import scheduler_of

        if self.settings.scheduler is not None:
            pipeline.scheduler = scheduler_of(self.name, self.settings.scheduler, pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        if self.settings.attention_slicing:
            pipeline.enable_attention_slicing()
        if self.settings.vae_tiling:
            pipeline.vae.enable_tiling()
        if self.settings.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif self.settings.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
        return pipeline

    def _require_room(self, mask: np.ndarray) -> None:
        """Refuse a mask that leaves nothing to fit into, and one so thin that no latent value is painted."""
        if mask.all():
            raise SampleError(f"{self.name}: the mask covers the whole image, so there is nothing that the paint could fit into")
        # Pipelines shrink masks by taking every eighth pixel (nearest neighbour).
        if not mask[::LATENT_PIXELS, ::LATENT_PIXELS].any():
            raise SampleError(f"{self.name}: the mask is so thin that the model would not see it; dilate it more")

    def _checked(self, output: Any, size: tuple[int, int]) -> Image:
        """The image of an output. Raises `SampleError` where the safety checker blacked it out, or where it shows nothing."""
        if any(np.atleast_1d(getattr(output, "nsfw_content_detected", None) or False)):
            raise SampleError(f"{self.name}: the checkpoint's safety checker refused the image (option safety_checker)")
        image = output.images[0].convert("RGB")
        if image.size != size:
            raise VseamError(f"editor {self.name!r}: the pipeline painted {image.size} pixels for an image of {size}; set multiple")
        if all(low == high for low, high in image.getextrema()):
            raise SampleError(f"{self.name}: the model painted one flat colour (numbers out of range?); try dtype=float32")
        return image


def words_of(plan: EditPlan, painter: str) -> str:
    """What the edited region is to show, in words. Raises `SampleError` for a plan without any."""
    words = (plan.region_prompt or plan.prompt).strip()
    if not words:
        raise SampleError(f"{painter}: the plan has no prompt to paint by")
    return words


def accepted_by(function: Any, **arguments: Any) -> dict[str, Any]:
    """Those of `arguments` that a function takes, without those that are None."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in arguments.items() if name in known and value is not None}


def source_identity(folder: Path, parts: list[str]) -> str:
    """The commit of a folder in the hub's cache (`…/snapshots/COMMIT`), else a hash of its files."""
    if folder.parent.name == "snapshots":
        return f"commit {folder.name}"
    from vseam_plugins.editors.diffusion.loading import files_hash

    return f"sha256 {files_hash(folder, parts)}"


def _memory_advice(settings: DiffusionSettings) -> str:
    if settings.offload == "none":
        return "use the option offload=model"
    further = "" if settings.offload == "sequential" else ", offload=sequential"
    return f"use a smaller side, attention_slicing=true, vae_tiling=true{further}"
