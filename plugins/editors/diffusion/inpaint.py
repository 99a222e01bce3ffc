"""Any inpainting pipeline of diffusers that takes `prompt, image, mask_image`: Stable Diffusion (XL, 3), Flux, Qwen-Image, Z-Image …"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.api.interfaces import EditPlan
from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError, did_you_mean
from vseam_plugins.editors.diffusion.painting import DiffusionPainter, accepted_by, source_identity, words_of
from vseam_plugins.editors.diffusion.settings import DiffusionSettings, Offload

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

WHERE = (
    "give a folder written by save_pretrained or a hub id, such as stable-diffusion-v1-5/stable-diffusion-inpainting (about 4 GB) or "
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1 (about 7 GB)"
)
_TAKES = ("prompt", "image", "mask_image")


class InpaintPainter(DiffusionPainter):
    """Paints with the pipeline of a checkpoint.

    `source` is a folder or a hub id, `pipeline` the name of a diffusers class (None: the inpainting pipeline that belongs to the
    checkpoint). `strength` 1 paints from pure noise; less keeps something of what was there. `negative_prompt` joins the plan's.
    `arguments` are passed on to the pipeline's call.
    """

    name = "inpaint"

    def __init__(
        self,
        source: str | None = None,
        *,
        pipeline: str | None = None,
        revision: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        strength: float = 1.0,
        negative_prompt: str = "",
        scheduler: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        side: int = 512,
        max_side: int = 1024,
        multiple: int | None = None,
        offload: Offload = "none",
        attention_slicing: bool = False,
        vae_tiling: bool = False,
        safety_checker: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        from vseam_plugins.editors.pixels import checked_strength

        if not source:
            raise VseamError(f"editor {self.name!r} needs the option source (--editor-option source=…): {WHERE}")
        memory = {"offload": offload, "attention_slicing": attention_slicing, "vae_tiling": vae_tiling}
        sizes = {"side": side, "max_side": max_side, "multiple": multiple}
        shared: dict[str, Any] = {"scheduler": scheduler, "device": device, "dtype": dtype, "safety_checker": safety_checker}
        super().__init__(DiffusionSettings(self.name, steps, guidance, **shared, **memory, **sizes))  # type: ignore[arg-type]
        self._source, self._class, self._revision = source, pipeline, revision
        self._strength, self._negative = checked_strength(self.name, strength), negative_prompt
        self._arguments = dict(arguments or {})
        self._folder: Path | None = None

    def load(self, device: torch.device, dtype: torch.dtype) -> Any:
        from vseam_plugins.editors.diffusion.loading import explained, load_parts, quietly, read_index

        folder = self._located()
        index = read_index(self.name, folder, WHERE)
        kind = self._pipeline_class(index["_class_name"])
        unknown = [name for name in self._arguments if name not in accepted_by(kind.__call__, **{name: 0})]
        if unknown:
            raise VseamError(f"editor {self.name!r}: {kind.__name__} takes no argument {unknown[0]!r}")
        leave_out = {} if self.settings.safety_checker else accepted_by(kind.__init__, safety_checker=False, requires_safety_checker=False)
        parts = load_parts(self.name, folder, index, dtype, skip=leave_out)
        # A part that is passed as None is left out.
        parts.update({name: None if name == "safety_checker" else value for name, value in leave_out.items()})
        with explained(self.name, str(folder)), quietly():
            return kind.from_pretrained(str(folder), dtype=dtype, local_files_only=True, **parts)

    def run(self, pipeline: Any, image: Image, mask: Image, plan: EditPlan, generator: torch.Generator) -> Any:
        negative = ", ".join(words for words in (plan.negative_prompt, self._negative) if words)
        guidance = guidance_argument(type(pipeline))
        # Pipelines with true guidance leave it out where no negative prompt is given.
        nothing = " " if guidance == "true_cfg_scale" else None
        optional = {
            "negative_prompt": negative or nothing,
            "strength": self._strength,
            "num_inference_steps": self.settings.steps,
            guidance: self.settings.guidance,
            "width": image.width,
            "height": image.height,
            "generator": generator,
        }
        given = {**accepted_by(pipeline.__call__, **optional), **self._arguments}
        return pipeline(prompt=words_of(plan, self.name), image=image, mask_image=mask, **given)

    def identity(self) -> Mapping[str, object]:
        from vseam_plugins.editors.diffusion.loading import read_index

        kind = self._pipeline_class(read_index(self.name, self._located(), WHERE)["_class_name"])
        used = {"steps": self.settings.steps, "guidance": self.settings.guidance}
        defaults = {"steps": default_of(kind, "num_inference_steps"), "guidance": default_of(kind, guidance_argument(kind))}
        own = {"pipeline": kind.__name__, "strength": self._strength, "negative_prompt": self._negative, "arguments": self._arguments}
        return {**super().identity(), **{name: defaults[name] if value is None else value for name, value in used.items()}, **own}

    def weights_identity(self) -> str:
        from vseam_plugins.editors.diffusion.loading import read_index

        folder = self._located()
        index = read_index(self.name, folder, WHERE)
        used = [name for name, entry in index.items() if isinstance(entry, list) and entry[0] and name != "safety_checker"]
        return source_identity(folder, ["model_index.json", *used])

    def _located(self) -> Path:
        from vseam_plugins.editors.diffusion.loading import locate

        self._folder = self._folder or locate(self.name, self._source, self._revision, None, WHERE)
        return self._folder

    def _pipeline_class(self, shipped: str) -> Any:
        """The class asked for, or the inpainting pipeline that belongs to the checkpoint's own. Raises `UnknownNameError`."""
        import diffusers

        from vseam_plugins.editors.diffusion.loading import quietly

        with quietly():  # importing all pipelines makes remarks about what is not installed
            from diffusers.pipelines.auto_pipeline import AUTO_INPAINT_PIPELINES_MAPPING, _get_task_class

        if self._class is not None:
            kind = getattr(diffusers, self._class, None)
            if kind is None:
                guess = did_you_mean(self._class, [name for name in dir(diffusers) if "Inpaint" in name or "Fill" in name])
                raise UnknownNameError(f"editor {self.name!r}: diffusers has no pipeline {self._class!r}; {guess}")
        else:
            kind = getattr(diffusers, shipped, None)
            if kind is None or not _is_inpainting(kind):
                kind = _get_task_class(AUTO_INPAINT_PIPELINES_MAPPING, shipped, throw_error_if_not_exist=False)
            if kind is None:
                raise InvalidFileError(
                    f"editor {self.name!r}: diffusers knows no inpainting pipeline for {shipped} ({self._source}); "
                    "name one by the option pipeline"
                )
        if not _is_inpainting(kind):
            raise InvalidFileError(f"editor {self.name!r}: {kind.__name__} does not take {', '.join(_TAKES)}, so it cannot paint in a mask")
        return kind


def guidance_argument(kind: Any) -> str:
    """The name of classifier-free guidance in a pipeline's call: `true_cfg_scale` where it guides so by default, else `guidance_scale`."""
    true_guidance = default_of(kind, "true_cfg_scale")
    return "true_cfg_scale" if true_guidance is not None and true_guidance > 1 else "guidance_scale"


def default_of(kind: Any, argument: str) -> Any:
    """The default of an argument of a pipeline's call, or None where it takes none of that name."""
    found = inspect.signature(kind.__call__).parameters.get(argument)
    return None if found is None or found.default is inspect.Parameter.empty else found.default


def _is_inpainting(kind: Any) -> bool:
    """Whether a pipeline class takes a prompt, an image and a mask."""
    return len(accepted_by(kind.__call__, **dict.fromkeys(_TAKES, True))) == len(_TAKES)
