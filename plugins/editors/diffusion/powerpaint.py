"""PowerPaint, the painter of the V-SEAM paper, v1 and v2, on stock diffusers pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.api.interfaces import EditPlan
from vseam_core.errors import InvalidFileError, VseamError, did_you_mean
from vseam_plugins.editors.diffusion.painting import DiffusionPainter, source_identity, words_of
from vseam_plugins.editors.diffusion.settings import DiffusionSettings, Offload

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

V1_SOURCE, V2_SOURCE = "JunhaoZhuang/PowerPaint-v1", "JunhaoZhuang/PowerPaint-v2-1"
V1_BASE, V2_BASE = "stable-diffusion-v1-5/stable-diffusion-inpainting", "realisticVisionV60B1_v51VAE"
V1_UNET, V1_TEXT = "unet/unet.safetensors", "text_encoder/text_encoder.safetensors"
V2_BRANCH = "PowerPaint_Brushnet"
V2_TEXT = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
V2_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
WHERE_V1 = f"get {V1_SOURCE} from the Hugging Face hub (about 4 GB) and, as base, {V1_BASE} (about 4 GB; its VAE, tokenizer and settings)"
WHERE_V2 = f"get {V2_SOURCE} from the Hugging Face hub (about 8 GB: {V2_BRANCH}/ and {V2_BASE}/)"
_BASE_PARTS = ("vae", "tokenizer", "scheduler", "unet/config.json", "text_encoder/config.json")
_PARTS = ("vae", "tokenizer", "scheduler", "unet", "text_encoder")
_V1_PATTERNS = ("model_index.json", *(f"{part}/*" for part in _PARTS))
_V1_BASE_PATTERNS = ("model_index.json", "vae/*", "tokenizer/*", "scheduler/*", "unet/config.json", "text_encoder/config.json")
_V2_PATTERNS = (f"{V2_BRANCH}/*", *(f"{V2_BASE}/{pattern}" for pattern in _V1_PATTERNS))


@dataclass(frozen=True, eq=False)
class Branch:
    """What v2 has beside its pipeline: the BrushNet, and the text stack that knows the task words."""

    network: Any
    tokenizer: Any
    encoder: Any


class PowerPaintPainter(DiffusionPainter):
    """Shared by both versions: options, prompts and identity.

    `task` is what PowerPaint is asked for: an `object` by words, one that keeps the mask's `shape` (`fitting` from 0 to 1 says how
    closely), or the `context` alone (nothing but background). `preset` `paper` uses the task words as trained, `upstream` one text for
    all prompts, as the published edit code does. Both use the defaults of PowerPaint's demonstration: 45 steps of UniPC, guidance
    7.5, 640 pixels.
    """

    name = "powerpaint"
    edition: int

    def __init__(self, source: str, base: str | None, own: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
        super().__init__(DiffusionSettings(self.name, **shared))
        self._source, self._base = source, base
        self._revision: str | None = own["revision"]
        self._preset, self._task, self._negative = own["preset"], own["task"], own["negative_prompt"]
        self._fitting, self._scale = own["fitting"], own["conditioning_scale"]

    def identity(self) -> Mapping[str, object]:
        own = {"edition": self.edition, "preset": self._preset, "task": self._task, "negative_prompt": self._negative}
        return {**super().identity(), **own, "fitting": self._fitting, "conditioning_scale": self._scale}

    def _prompts(self, plan: EditPlan) -> Any:
        from vseam_plugins.editors.diffusion.tasks import prompts

        words = words_of(plan, self.name)
        if self._preset == "upstream" and plan.prompt.strip():
            words = plan.prompt.strip()
        negative = ", ".join(text for text in (plan.negative_prompt, self._negative) if text)
        return prompts(self._task, self._preset, self.edition, words, negative)

    def size_multiple(self) -> int:
        return 8

    def _call(self, image: Image, generator: torch.Generator) -> dict[str, Any]:
        return {
            "num_inference_steps": self.settings.steps,
            "guidance_scale": self.settings.guidance,
            "generator": generator,
            "width": image.width,
            "height": image.height,
        }


class PowerPaintV1(PowerPaintPainter):
    """An inpainting checkpoint whose UNet and text encoder are PowerPaint's; or a folder that holds all of it already."""

    edition = 1

    def load(self, device: torch.device, dtype: torch.dtype) -> Any:
        from diffusers import StableDiffusionInpaintPipeline

        from vseam_plugins.editors.diffusion.loading import load_model, load_parts, read_index
        from vseam_plugins.editors.diffusion.tasks import load_text_encoder, require_task_tokens

        source, base = self._folders()
        if base is None:
            index = read_index(self.name, source, WHERE_V1)
            parts = load_parts(self.name, source, index, dtype, skip=("safety_checker",))
            pipeline = _pipeline(self.name, StableDiffusionInpaintPipeline, source, parts)
            require_task_tokens(self.name, source, pipeline.tokenizer, pipeline.text_encoder)
            return pipeline
        tokenizer, encoder = load_text_encoder(self.name, base, source / V1_TEXT)
        parts = {
            "vae": load_model(self.name, _autoencoder(), base, "vae", dtype),
            "unet": _unet(self.name, base, source / V1_UNET).to(dtype),
            "tokenizer": tokenizer,
            "text_encoder": encoder.to(dtype),
        }
        return _pipeline(self.name, StableDiffusionInpaintPipeline, base, parts)

    def run(self, pipeline: Any, image: Image, mask: Image, plan: EditPlan, generator: torch.Generator) -> Any:
        from vseam_plugins.editors.diffusion.tasks import embedded

        texts = self._prompts(plan)
        stack = (pipeline.tokenizer, pipeline.text_encoder, pipeline._execution_device)
        return pipeline(
            prompt_embeds=embedded(*stack, texts.first, texts.second, self._fitting),
            negative_prompt_embeds=embedded(*stack, texts.negative_first, texts.negative_second, self._fitting),
            image=image,
            mask_image=mask,
            strength=1.0,
            **self._call(image, generator),
        )

    def weights_identity(self) -> str:
        source, base = self._folders()
        if base is None:
            return source_identity(source, ["model_index.json", *_PARTS])
        return f"{source_identity(source, [V1_UNET, V1_TEXT])}; base {source_identity(base, list(_BASE_PARTS))}"

    def _folders(self) -> tuple[Path, Path | None]:
        """The folder of PowerPaint and that of its base; None where the first is a whole pipeline. Raises `VseamError` subclasses."""
        from vseam_plugins.editors.diffusion.loading import locate, read_index

        source = locate(self.name, self._source, self._revision, _V1_PATTERNS, WHERE_V1)
        found = [(source / file).is_file() for file in (V1_UNET, V1_TEXT)]
        if not any(found) and (source / "model_index.json").is_file():
            return source, None
        for file, is_there in zip((V1_UNET, V1_TEXT), found, strict=True):
            if not is_there:
                raise InvalidFileError(f"editor {self.name!r}: {source} lacks {file}; {WHERE_V1}")
        base = locate(self.name, self._base or V1_BASE, None, _V1_BASE_PATTERNS, WHERE_V1)
        read_index(self.name, base, WHERE_V1)
        return source, base


class PowerPaintV2(PowerPaintPainter):
    """A stock text-to-image pipeline with a BrushNet branch that is told the task; `conditioning_scale` weighs the branch.

    The branch sees the mean of the VAE's posterior. (The published code samples it from the global generator, so that its seed does not
    fix the image.)
    """

    edition = 2
    _branch: Branch | None = None

    def load(self, device: torch.device, dtype: torch.dtype) -> Any:
        from diffusers import StableDiffusionPipeline

        from vseam_plugins.editors.diffusion.loading import load_parts, read_index
        from vseam_plugins.editors.diffusion.tasks import load_text_encoder

        folder, base = self._folders()
        index = read_index(self.name, base, WHERE_V2)
        parts = load_parts(self.name, base, index, dtype, skip=("safety_checker",))
        pipeline = _pipeline(self.name, StableDiffusionPipeline, base, parts)
        tokenizer, encoder = load_text_encoder(self.name, base, _first(self.name, folder, V2_TEXT))
        network = _brushnet(self.name, folder, pipeline.unet.config)
        self._branch = Branch(network.to(dtype), tokenizer, encoder.to(dtype))
        return pipeline

    def run(self, pipeline: Any, image: Image, mask: Image, plan: EditPlan, generator: torch.Generator) -> Any:
        import torch

        from vseam_plugins.editors.diffusion.brushnet import Residuals, injected
        from vseam_plugins.editors.diffusion.tasks import embedded

        assert self._branch is not None  # loaded with the pipeline
        texts, branch, device = self._prompts(plan), self._branch, pipeline._execution_device
        with self._on(device):
            stack = (branch.tokenizer, branch.encoder, device)
            unwanted = embedded(*stack, texts.negative_first, texts.negative_second, self._fitting)
            context = torch.cat([unwanted, embedded(*stack, texts.first, texts.second, self._fitting)])
            condition = condition_of(pipeline, image, mask, device)

            def residuals(sample: torch.Tensor, timestep: Any) -> Residuals:
                # With guidance the batch is (unwanted, wanted), without it wanted alone.
                count = sample.shape[0]
                return branch.network(sample, timestep, context[-count:], condition.expand(count, -1, -1, -1), self._scale)

            with injected(pipeline.unet, residuals):
                return pipeline(prompt=texts.plain, negative_prompt=texts.plain_negative, **self._call(image, generator))

    def release(self) -> None:
        self._branch = None
        super().release()

    def weights_identity(self) -> str:
        folder, base = self._folders()
        own = source_identity(folder, [_first(self.name, folder, names).name for names in (V2_TEXT, V2_WEIGHTS)])
        return f"{own}; base {source_identity(base, ['model_index.json', *_PARTS])}"

    def _placed(self, pipeline: Any, device: torch.device) -> Any:
        placed = super()._placed(pipeline, device)
        if self._branch is not None and self.settings.offload == "sequential":
            from accelerate import cpu_offload

            for module in (self._branch.network, self._branch.encoder):
                cpu_offload(module, device)
        if self._branch is not None and self.settings.offload == "none":
            self._branch.network.to(device)
            self._branch.encoder.to(device)
        return placed

    def _on(self, device: torch.device) -> AbstractContextManager[None]:
        """While active, the branch lies on `device`, where it is not kept there (or moved layer by layer) anyway."""
        assert self._branch is not None  # loaded with the pipeline
        return _moved((self._branch.network, self._branch.encoder), device) if self.settings.offload == "model" else nullcontext()

    def _folders(self) -> tuple[Path, Path]:
        """The folder of the branch and that of the pipeline that it paints with. Raises `VseamError` subclasses."""
        from vseam_plugins.editors.diffusion.loading import locate

        source = locate(self.name, self._source, self._revision, _V2_PATTERNS, WHERE_V2)
        folder = source / V2_BRANCH
        if not folder.is_dir():
            raise InvalidFileError(f"editor {self.name!r}: {source} lacks {V2_BRANCH}/; {WHERE_V2}")
        _first(self.name, folder, V2_TEXT)
        _first(self.name, folder, V2_WEIGHTS)
        return folder, source / V2_BASE if self._base is None else locate(self.name, self._base, None, None, WHERE_V2)


def condition_of(pipeline: Any, image: Image, mask: Image, device: torch.device) -> torch.Tensor:
    """What the branch sees, `[1, 5, height, width]`: latents of the image with a black hole, and 1 where it is kept."""
    import numpy as np
    import torch
    from PIL import Image as images

    hole = images.composite(images.new("RGB", image.size), image, mask)
    pixels = pipeline.image_processor.preprocess(hole).to(device, pipeline.vae.dtype)
    latents = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    keep = torch.from_numpy((np.asarray(mask) < 128).astype(np.float32)).to(latents)[None, None]
    return torch.cat([latents, torch.nn.functional.interpolate(keep, size=latents.shape[-2:])], dim=1)


def powerpaint(
    source: str | None = None,
    *,
    version: int = 2,
    base: str | None = None,
    revision: str | None = None,
    preset: str = "paper",
    task: str = "object",
    fitting: float = 1.0,
    negative_prompt: str = "",
    conditioning_scale: float = 1.0,
    steps: int = 45,
    guidance: float = 7.5,
    scheduler: str | None = "UniPCMultistepScheduler",
    device: str = "auto",
    dtype: str = "auto",
    side: int = 640,
    max_side: int = 1280,
    offload: Offload = "none",
    attention_slicing: bool = False,
    vae_tiling: bool = False,
) -> PowerPaintPainter:
    """The painter of that version. Raises `VseamError` for options out of range."""
    for name, value, known in (("preset", preset, ("paper", "upstream")), ("task", task, ("object", "shape", "context"))):
        if value not in known:
            raise VseamError(f"editor 'powerpaint': {name} is {value!r}; {did_you_mean(str(value), known)}")
    for name, number, most in (("fitting", fitting, 1), ("conditioning_scale", conditioning_scale, 10)):
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= most:
            raise VseamError(f"editor 'powerpaint': {name} is {number!r}; expected a number from 0 to {most}")
    if version not in (1, 2) or isinstance(version, bool):
        raise VseamError(f"editor 'powerpaint': version is {version!r}; expected 1 or 2")
    own = {
        "revision": revision,
        "preset": preset,
        "task": task,
        "fitting": fitting,
        "negative_prompt": negative_prompt,
        "conditioning_scale": conditioning_scale,
    }
    shared = {
        "steps": steps,
        "guidance": guidance,
        "scheduler": scheduler,
        "device": device,
        "dtype": dtype,
        "side": side,
        "max_side": max_side,
        "offload": offload,
        "attention_slicing": attention_slicing,
        "vae_tiling": vae_tiling,
    }
    if version == 1:
        return PowerPaintV1(source or V1_SOURCE, base, own, shared)
    return PowerPaintV2(source or V2_SOURCE, base, own, shared)


@contextmanager
def _moved(modules: Sequence[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """While active, modules lie on a device; afterwards on the CPU again."""
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module in modules:
            module.to("cpu")


def _pipeline(painter: str, kind: Any, folder: Path, parts: Mapping[str, Any]) -> Any:
    from vseam_plugins.editors.diffusion.loading import explained, quietly

    with explained(painter, str(folder)), quietly():
        empty = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return kind.from_pretrained(str(folder), local_files_only=True, **empty, **parts)


def _autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL


def _unet(painter: str, base: Path, weights: Path) -> Any:
    """A UNet of the base's shape with exactly the weights of a file."""
    import torch
    from diffusers import UNet2DConditionModel

    from vseam_plugins.editors.diffusion.loading import explained, load_strictly, quietly, read_tensors

    with explained(painter, f"the settings of {base / 'unet'}"), quietly(), torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(base), subfolder="unet", local_files_only=True))
    load_strictly(painter, unet, read_tensors(painter, weights), weights, assign=True)
    return unet.eval().requires_grad_(False)


def _brushnet(painter: str, folder: Path, unet: Mapping[str, Any]) -> Any:
    """The branch with exactly the weights of its file; its shape is the UNet's, or what its own config.json says."""
    import json

    import torch

    from vseam_plugins.editors.diffusion.brushnet import BrushNetModel
    from vseam_plugins.editors.diffusion.loading import explained, load_strictly, quietly, read_tensors

    weights, settings = _first(painter, folder, V2_WEIGHTS), folder / "config.json"
    with explained(painter, f"the settings of {folder}"), quietly(), torch.device("meta"):
        said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        network = BrushNetModel({**unet, **{key: value for key, value in said.items() if key in unet and not key.startswith("_")}})
    load_strictly(painter, network, read_tensors(painter, weights), weights, assign=True)
    return network.eval().requires_grad_(False)


def _first(painter: str, folder: Path, names: tuple[str, ...]) -> Path:
    """The first of those files that a folder has. Raises `InvalidFileError`."""
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise InvalidFileError(f"editor {painter!r}: {folder} lacks {' or '.join(names)}; {WHERE_V2}")
    return found[0]
