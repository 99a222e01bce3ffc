"""The generic inpainting painter, on tiny checkpoints in the real layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from PIL import Image

from vseam_core.api.interfaces import EditPlan, Painter
from vseam_core.errors import InvalidFileError, SampleError, UnknownNameError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.records import EditorRecord
from vseam_plugins.editors.diffusion.inpaint import InpaintPainter, default_of, guidance_argument

from .checkpoints import rewrite, write_sdxl
from .images import ball

PLAN = EditPlan("red", "blue", "a red cat", None, negative_prompt="cat")
FAST: dict[str, Any] = {"steps": 2, "device": "cpu", "side": 64, "scheduler": "DDIMScheduler"}


def picture() -> tuple[Image.Image, np.ndarray]:
    image, mask = ball((200, 30, 35))
    return image.resize((64, 64)), np.asarray(Image.fromarray(mask).resize((64, 64)))


def pixels(painter: InpaintPainter, seed: int = 0, plan: EditPlan = PLAN) -> np.ndarray:
    image, mask = picture()
    return np.asarray(painter.paint(image, mask, plan, seed))


def failure(folder: Path, kind: type[VseamError] = InvalidFileError, **options: Any) -> str:
    """The message of the error that painting raises; always one line that names the editor."""
    with pytest.raises(kind) as caught:
        pixels(InpaintPainter(str(folder), **{**FAST, **options}))
    text = str(caught.value)
    assert "\n" not in text
    assert "inpaint" in text
    return text


@pytest.fixture
def copy(inpainting: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(inpainting, tmp_path / "copy"))


@pytest.fixture(scope="module")
def painter(inpainting: Path) -> InpaintPainter:
    return InpaintPainter(str(inpainting), **FAST)


def test_it_paints_what_the_pipeline_of_the_library_paints(painter: InpaintPainter, inpainting: Path) -> None:
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(str(inpainting), safety_checker=None, requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    image, mask = picture()
    expected = pipeline(
        prompt="a red cat",
        negative_prompt="cat",
        image=image,
        mask_image=Image.fromarray(mask),
        width=64,
        height=64,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert np.array_equal(pixels(painter, 5), np.asarray(expected))


def test_the_same_seed_gives_the_same_image_whatever_ran_before(painter: InpaintPainter) -> None:
    first, other = pixels(painter, 1), pixels(painter, 2)
    torch.rand(3)
    assert np.array_equal(pixels(painter, 1), first)
    assert not np.array_equal(first, other)


def test_the_words_of_the_plan_matter(painter: InpaintPainter) -> None:
    whole = EditPlan("red", "blue", "a cat that is red", None, region_prompt="red")
    region = EditPlan("red", "blue", "red", None)
    assert np.array_equal(pixels(painter, plan=whole), pixels(painter, plan=region))
    assert not np.array_equal(pixels(painter, plan=region), pixels(painter))


def test_a_text_to_image_checkpoint_paints_with_its_inpainting_pipeline(text_to_image: Path) -> None:
    painter = InpaintPainter(str(text_to_image), **FAST)
    assert type(painter.pipeline()) is StableDiffusionInpaintPipeline
    assert pixels(painter).shape == (64, 64, 3)
    named = InpaintPainter(str(text_to_image), pipeline="StableDiffusionInpaintPipeline", **FAST)
    assert np.array_equal(pixels(painter), pixels(named))


def test_released_memory_is_loaded_again(inpainting: Path) -> None:
    painter = InpaintPainter(str(inpainting), **FAST)
    first = pixels(painter)
    painter.release()
    assert painter._pipeline is None
    assert np.array_equal(pixels(painter), first)


def test_memory_options_leave_the_image_nearly_as_it_is(painter: InpaintPainter, inpainting: Path) -> None:
    sparing = InpaintPainter(str(inpainting), attention_slicing=True, vae_tiling=True, **FAST)
    assert np.abs(pixels(sparing).astype(int) - pixels(painter)).max() <= 2
    assert sparing.identity() != painter.identity()


def test_identity_changes_with_weights_and_settings_but_not_with_the_place(painter: InpaintPainter, inpainting: Path, copy: Path) -> None:
    known = painter.identity()
    assert json.dumps(known)
    assert InpaintPainter(str(copy), **FAST).identity() == known
    for change in ({"steps": 3}, {"guidance": 2.0}, {"scheduler": None}, {"strength": 0.9}, {"side": 128}, {"dtype": "bfloat16"}):
        assert InpaintPainter(str(inpainting), **{**FAST, **change}).identity() != known
    rewrite(copy / "unet" / "diffusion_pytorch_model.safetensors", lambda tensors: tensors["conv_in.bias"].add_(1e-3))
    assert InpaintPainter(str(copy), **FAST).identity() != known


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((500, 375), 512, (680, 512)), ((100, 100), 512, (512, 512)), ((2000, 500), 512, (1024, 256)), ((333, 500), 64, (64, 96))],
)
def test_working_sizes_keep_the_shape_and_are_divisible(
    painter: InpaintPainter, inpainting: Path, size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    working = InpaintPainter(str(inpainting), **{**FAST, "side": side}).working_size(size)
    assert working == expected
    assert InpaintPainter(str(inpainting), multiple=64, **{**FAST, "side": 512}).working_size((500, 375)) == (704, 512)


def test_images_that_are_too_small_or_too_narrow_are_refused(painter: InpaintPainter) -> None:
    with pytest.raises(SampleError, match="the image has 20×300 pixels; expected at least 32"):
        painter.working_size((20, 300))
    with pytest.raises(SampleError, match="too narrow"):
        painter.working_size((40, 4000))


def test_masks_and_plans_that_cannot_be_painted_are_refused(painter: InpaintPainter) -> None:
    image, mask = picture()
    for wrong, reason in ((np.zeros_like(mask), "mask is empty"), (np.ones_like(mask), "covers the whole image")):
        with pytest.raises(SampleError, match=reason):
            painter.paint(image, wrong, PLAN, 0)
    thin = np.zeros_like(mask)
    thin[:, 3] = True
    with pytest.raises(SampleError, match="so thin that the model would not see it"):
        painter.paint(image, thin, PLAN, 0)
    with pytest.raises(SampleError, match="no prompt to paint by"):
        painter.paint(image, mask, EditPlan("red", "blue", " ", None), 0)


class Output:
    def __init__(self, image: Image.Image, flagged: Any = None) -> None:
        self.images, self.nsfw_content_detected = [image], flagged


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (Output(Image.new("RGB", (64, 64))), "one flat colour"),
        (Output(picture()[0], [True]), "safety checker refused"),
        (Output(Image.new("RGB", (64, 64)), [True]), "safety checker refused"),
    ],
)
def test_a_blacked_out_image_is_never_taken_for_an_edit(inpainting: Path, output: Output, reason: str) -> None:
    painter = InpaintPainter(str(inpainting), **FAST)
    painter._pipeline = lambda prompt, image, mask_image, **rest: output
    with pytest.raises(SampleError, match=reason):
        pixels(painter)


def test_missing_checkpoints_say_where_to_get_one(tmp_path: Path) -> None:
    assert "no folder at" in failure(tmp_path / "none")
    assert "stable-diffusion-inpainting (about 4 GB)" in failure(tmp_path / "none")
    assert "lacks model_index.json" in failure(tmp_path)
    with pytest.raises(VseamError, match="editor 'inpaint' needs the option source"):
        build_plugins().find(EditorRecord, "inpaint").create(Painter)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    assert f"lacks the weights or config.json of {part}" in failure(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_single_missing_weight_is_an_error(copy: Path, part: str) -> None:
    dropped: list[str] = []
    (file,) = (copy / part).glob("*.safetensors")
    rewrite(file, lambda tensors: dropped.append(tensors.popitem()[0]))
    text = failure(copy)
    assert "1 missing, such as" in text
    assert dropped[0].removeprefix("text_model.") in text


def test_a_damaged_file_is_one_line(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense")
    assert "cannot read vae of" in failure(copy)
    (copy / "model_index.json").write_text("{")
    assert "is not the index of a diffusers pipeline" in failure(copy)


def test_a_pickle_with_code_is_not_run(copy: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.bias": Evil()}, copy / "unet" / "diffusion_pytorch_model.bin")
    assert "cannot read unet of" in failure(copy)
    assert not (tmp_path / "ran").exists()


def test_wrong_options_are_one_line(inpainting: Path) -> None:
    assert "did you mean 'DDIMScheduler'" in failure(inpainting, UnknownNameError, scheduler="DDIMSchedule")
    assert "diffusers has no pipeline 'InpaintPipeline'" in failure(inpainting, UnknownNameError, pipeline="InpaintPipeline")
    assert "StableDiffusionPipeline does not take prompt, image, mask_image" in failure(inpainting, pipeline="StableDiffusionPipeline")
    assert "steps is 0; expected a whole number from 1" in failure(inpainting, VseamError, steps=0)
    assert "guidance is nan" in failure(inpainting, VseamError, guidance=float("nan"))
    assert "did you mean 'model'" in failure(inpainting, VseamError, offload="modell")
    assert "offload=model needs a GPU" in failure(inpainting, VseamError, offload="model")
    assert "float16 is for GPUs" in failure(inpainting, VseamError, dtype="float16")
    assert "takes no argument 'stepz'" in failure(inpainting, VseamError, arguments={"stepz": 3})


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(HfApi, "model_info", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(VseamError, match="the hub cannot be reached and the local cache lacks acme/none; give a folder"):
        InpaintPainter("acme/none", **FAST).identity()


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("StableDiffusionInpaintPipeline", "guidance_scale"),
        ("StableDiffusionXLInpaintPipeline", "guidance_scale"),
        ("FluxInpaintPipeline", "guidance_scale"),
        ("FluxFillPipeline", "guidance_scale"),
        ("QwenImageInpaintPipeline", "true_cfg_scale"),
        ("QwenImageEditInpaintPipeline", "true_cfg_scale"),
        ("ZImageInpaintPipeline", "guidance_scale"),
    ],
)
def test_guidance_goes_to_the_argument_by_which_a_pipeline_guides(name: str, argument: str) -> None:
    kind = getattr(diffusers, name)
    assert guidance_argument(kind) == argument
    assert default_of(kind, argument) > 1


def test_steps_and_guidance_that_are_left_out_are_the_pipelines_own(inpainting: Path) -> None:
    identity = InpaintPainter(str(inpainting)).identity()
    assert (identity["steps"], identity["guidance"]) == (50, 7.5)
    assert InpaintPainter(str(inpainting), steps=50, guidance=7.5).identity() == identity


def test_half_precision_paints_nearly_the_same(painter: InpaintPainter, inpainting: Path) -> None:
    half = pixels(InpaintPainter(str(inpainting), dtype="bfloat16", **FAST))
    assert 0 < np.abs(half.astype(int) - pixels(painter)).mean() < 8


def test_old_names_of_a_vae_are_read(copy: Path, painter: InpaintPainter) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if "mid_block.attentions" in key]:
            renamed = key
            for new, before in old.items():
                renamed = renamed.replace(f".{new}.", f".{before}.")
            tensors[renamed] = tensors.pop(key)

    rewrite(copy / "vae" / "diffusion_pytorch_model.safetensors", rename)
    assert np.array_equal(pixels(InpaintPainter(str(copy), **FAST)), pixels(painter))


def test_a_pipeline_with_two_text_encoders_paints_as_the_library_does(tmp_path: Path) -> None:
    folder = write_sdxl(tmp_path / "xl")
    painter = InpaintPainter(str(folder), **{**FAST, "scheduler": None})
    image, mask = picture()
    expected = diffusers.StableDiffusionXLInpaintPipeline.from_pretrained(str(folder))(
        prompt="a red cat",
        negative_prompt="cat",
        image=image,
        mask_image=Image.fromarray(mask),
        width=64,
        height=64,
        strength=1.0,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert np.array_equal(pixels(painter, 5), np.asarray(expected))
    rewrite(folder / "text_encoder_2" / "model.safetensors", lambda tensors: tensors.pop("text_projection.weight"))
    assert "1 missing, such as text_projection.weight" in failure(folder, scheduler=None)
