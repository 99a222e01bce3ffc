"""PowerPaint v1 and v2 on tiny checkpoints in the real layouts, against the same computed step by step."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from vseam_core.api.interfaces import EditPlan, Painter
from vseam_core.errors import InvalidFileError, SampleError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.records import EditorRecord
from vseam_plugins.editors.diffusion import brushnet
from vseam_plugins.editors.diffusion.powerpaint import PowerPaintPainter, powerpaint
from vseam_plugins.editors.diffusion.tasks import QUALITY, prompts

from . import independent
from .checkpoints import powerpaint_text_state, rewrite, unet
from .images import ball

PLAN = EditPlan("red", "blue", "a cat that is red", None, region_prompt="red cat", negative_prompt="cat")
STEPS = 2
FAST: dict[str, Any] = {"steps": STEPS, "device": "cpu", "side": 64, "scheduler": "DDIMScheduler", "guidance": 3.0}
# Of the published PowerPaint-v2-1: names and shapes of PowerPaint_Brushnet/diffusion_pytorch_model.safetensors, sorted, as JSON.
PUBLISHED_BRANCH = {"tensors": 738, "parameters": 886069440, "sha256": "18d6cb8b9d1c4040c88ad193f98041471b255a5afa8d49d5ff1d99f0f8c84706"}
SD15 = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "layers_per_block": 2,
}


def picture() -> tuple[Image.Image, np.ndarray]:
    image, mask = ball((200, 30, 35))
    return image.resize((64, 64)), np.asarray(Image.fromarray(mask).resize((64, 64)))


def pixels(painter: PowerPaintPainter, seed: int = 0, plan: EditPlan = PLAN) -> np.ndarray:
    image, mask = picture()
    return np.asarray(painter.paint(image, mask, plan, seed))


def failure(kind: type[VseamError] = InvalidFileError, **options: Any) -> str:
    """The message of the error that painting raises; always one line that names the editor."""
    with pytest.raises(kind) as caught:
        pixels(powerpaint(**{**FAST, **options}))
    text = str(caught.value)
    assert "\n" not in text
    assert "powerpaint" in text
    return text


@pytest.fixture(scope="module")
def v1(powerpaint_v1: Path, inpainting: Path) -> PowerPaintPainter:
    return powerpaint(str(powerpaint_v1), version=1, base=str(inpainting), **FAST)


@pytest.fixture(scope="module")
def v2(powerpaint_v2: Path) -> PowerPaintPainter:
    return powerpaint(str(powerpaint_v2), **FAST)


@pytest.fixture
def copy_v1(powerpaint_v1: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(powerpaint_v1, tmp_path / "v1"))


@pytest.fixture
def copy_v2(powerpaint_v2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(powerpaint_v2, tmp_path / "v2"))


def test_the_branch_at_full_size_has_the_names_and_shapes_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        full = UNet2DConditionModel.from_config(SD15)
        network = brushnet.BrushNetModel(full.config)
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert len(shapes) == PUBLISHED_BRANCH["tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED_BRANCH["parameters"]
    assert hashlib.sha256(json.dumps(sorted(shapes.items())).encode()).hexdigest() == PUBLISHED_BRANCH["sha256"]


def test_v1_paints_what_its_formulas_give(v1: PowerPaintPainter, powerpaint_v1: Path, inpainting: Path) -> None:
    embed = independent.text_stack(inpainting, load_file(powerpaint_v1 / "text_encoder" / "text_encoder.safetensors"))
    model, vae = unet(9).eval(), AutoencoderKL.from_pretrained(str(inpainting / "vae"))
    model.load_state_dict(load_file(powerpaint_v1 / "unet" / "unet.safetensors"))
    image, mask = picture()
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    seen = independent.pixels_of(image) * torch.from_numpy(~mask)[None, None]
    with torch.no_grad():
        posterior = vae.encode(seen).latent_dist
    hole = (posterior.mean + posterior.std * torch.randn(1, 4, 8, 8, generator=generator)) * vae.config.scaling_factor
    beside = torch.cat([independent.shrunk(mask, (8, 8)), hole], dim=1)
    predict = independent.guided(
        lambda noisy, time, context: independent.output_of(model, torch.cat([noisy, beside], dim=1), time, context),
        wanted=embed("red cat P_obj"),
        unwanted=embed("cat , worst quality , low quality , normal quality , bad quality , blurry P_obj"),
        guidance=3.0,
    )
    expected = independent.decoded(vae, independent.ddim(predict, latents, STEPS))
    difference = np.abs(pixels(v1, 7).astype(int) - expected)
    assert difference.max() <= 1
    assert np.ptp(expected) > 20


def test_the_branch_gives_what_a_stock_unet_of_nine_channels_holds(powerpaint_v2: Path) -> None:
    weights = independent.load_branch(powerpaint_v2)
    network = brushnet.BrushNetModel(unet(4).config).eval()
    network.load_state_dict(weights)
    generator = torch.Generator().manual_seed(0)
    sample, condition = torch.randn(1, 4, 8, 12, generator=generator), torch.randn(1, 5, 8, 12, generator=generator)
    context = torch.randn(1, 77, 32, generator=generator)
    with torch.no_grad():
        found = network(sample, 401, context, condition)
    expected = independent.branch_states(weights, unet(9).eval(), sample, condition, 401, context)
    for ours, theirs in zip((found.down, [found.middle], found.up), expected, strict=True):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_residuals_are_added_where_a_forward_pass_by_hand_adds_them() -> None:
    generator = torch.Generator().manual_seed(0)
    model = unet(4).eval()
    sample, context = torch.randn(1, 4, 8, 12, generator=generator), torch.randn(1, 77, 32, generator=generator)
    with torch.no_grad():
        states = independent.states_of(model, sample, 401, context)
    added = [[torch.randn(state.shape, generator=generator) * 0.3 for state in group] for group in states]
    expected = independent.output_of(model, sample, 401, context, added)
    with torch.no_grad():
        plain = model(sample, 401, encoder_hidden_states=context).sample
        with brushnet.injected(model, lambda x, t: brushnet.Residuals(added[0], added[1][0], added[2])):
            found = model(sample, 401, encoder_hidden_states=context).sample
        again = model(sample, 401, encoder_hidden_states=context).sample
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert (found - plain).abs().max() > 0.05
    assert torch.equal(plain, again)


def test_v2_paints_what_its_formulas_give(v2: PowerPaintPainter, powerpaint_v2: Path) -> None:
    base = powerpaint_v2 / "realisticVisionV60B1_v51VAE"
    stock = StableDiffusionPipeline.from_pretrained(str(base))
    told = independent.text_stack(base, torch.load(powerpaint_v2 / "PowerPaint_Brushnet" / "pytorch_model.bin", weights_only=True))("P_obj")
    words, negative = stock.encode_prompt("red cat", torch.device("cpu"), 1, True, f"cat, {QUALITY}")
    image, mask = picture()
    hole = np.where(mask[..., None], 0, np.asarray(image))
    with torch.no_grad():
        mean = stock.vae.encode(independent.pixels_of(Image.fromarray(hole.astype(np.uint8)))).latent_dist.mean
    condition = torch.cat([mean * stock.vae.config.scaling_factor, 1 - independent.shrunk(mask, (8, 8))], dim=1)
    weights, trunk = independent.load_branch(powerpaint_v2), unet(9).eval()

    def predict_one(noisy: torch.Tensor, time: int, context: torch.Tensor) -> torch.Tensor:
        added = independent.branch_states(weights, trunk, noisy, condition, time, told)
        return independent.output_of(stock.unet, noisy, time, context, added)

    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    expected = independent.decoded(stock.vae, independent.ddim(independent.guided(predict_one, words, negative, 3.0), latents, STEPS))
    difference = np.abs(pixels(v2, 7).astype(int) - expected)
    assert difference.max() <= 1
    assert np.ptp(expected) > 20


def test_with_conditioning_scale_0_v2_is_the_stock_pipeline_bit_for_bit(powerpaint_v2: Path, v2: PowerPaintPainter) -> None:
    stock = StableDiffusionPipeline.from_pretrained(str(powerpaint_v2 / "realisticVisionV60B1_v51VAE"))
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config)
    expected = stock(
        prompt="red cat",
        negative_prompt=f"cat, {QUALITY}",
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    without = powerpaint(str(powerpaint_v2), conditioning_scale=0.0, **FAST)
    assert np.array_equal(pixels(without, 3), np.asarray(expected))
    assert not np.array_equal(pixels(v2, 3), np.asarray(expected))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_seed_fixes_the_image_whatever_ran_before(version: str, request: pytest.FixtureRequest) -> None:
    painter = request.getfixturevalue(version)
    first, other = pixels(painter, 1), pixels(painter, 2)
    torch.rand(3)
    assert np.array_equal(pixels(painter, 1), first)
    assert not np.array_equal(first, other)


def hooks_of(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_hooks_are_gone_after_painting_and_after_an_error(v2: PowerPaintPainter) -> None:
    model = v2.pipeline().unet
    before = hooks_of(model)
    pixels(v2)
    assert hooks_of(model) == before == 0

    def fail(sample: Any, timestep: Any) -> Any:
        assert hooks_of(model) > 20
        raise RuntimeError("interrupted")

    sample, context = torch.zeros(1, 4, 8, 8), torch.zeros(1, 77, 32)
    with pytest.raises(RuntimeError, match="interrupted"), brushnet.injected(model, fail):
        model(sample, 1, encoder_hidden_states=context)
    assert hooks_of(model) == 0
    too_few = brushnet.Residuals([], sample, [])
    with pytest.raises(ValueError, match="the branch has 0 \\+ 0 states"), brushnet.injected(model, lambda x, t: too_few):
        model(sample, 1, encoder_hidden_states=context)
    assert hooks_of(model) == 0


def test_a_v1_folder_with_everything_in_it_paints_the_same(v1: PowerPaintPainter, tmp_path: Path, inpainting: Path) -> None:
    v1.pipeline().save_pretrained(tmp_path / "whole")
    whole = powerpaint(str(tmp_path / "whole"), version=1, **FAST)
    assert np.array_equal(pixels(whole), pixels(v1))
    text = failure(source=str(inpainting), version=1)
    assert "is no PowerPaint: its vocabulary lacks 30 of the 30 task tokens" in text


def test_without_guidance_the_branch_is_told_what_is_wanted(powerpaint_v2: Path) -> None:
    plain = powerpaint(str(powerpaint_v2), **{**FAST, "guidance": 1.0})
    assert not np.array_equal(pixels(plain), pixels(powerpaint(str(powerpaint_v2), task="shape", **{**FAST, "guidance": 1.0})))


def test_both_versions_say_what_powerpaint_was_trained_on() -> None:
    one = prompts("object", "paper", 1, "red cat", "cat")
    assert (one.first, one.second) == ("red cat P_obj", "red cat P_obj")
    assert one.negative_first == one.negative_second == f"cat, {QUALITY} P_obj"
    shape = prompts("shape", "paper", 1, "red cat", "")
    assert (shape.first, shape.second, shape.negative_second) == ("red cat P_shape", "red cat P_ctxt", f"{QUALITY} P_ctxt")
    two = prompts("shape", "paper", 2, "red cat", "cat")
    assert (two.first, two.second, two.plain, two.plain_negative) == ("P_shape", "P_ctxt", "red cat", f"cat, {QUALITY}")
    removed = prompts("context", "paper", 1, "table", "")
    assert (removed.first, removed.negative_first) == ("empty scene blur table P_ctxt", "P_obj")


def test_the_upstream_preset_gives_one_text_to_all_prompts_and_no_task_words(powerpaint_v2: Path) -> None:
    told = prompts("object", "upstream", 2, "is the cat red?", "")
    assert {told.first, told.second, told.plain} == {"is the cat red?"}
    assert {told.negative_first, told.negative_second, told.plain_negative} == {""}
    upstream = powerpaint(str(powerpaint_v2), preset="upstream", **FAST)
    assert upstream._prompts(PLAN).plain == "a cat that is red"
    assert pixels(upstream).shape == (64, 64, 3)


def test_the_fitting_degree_blends_shape_and_context(powerpaint_v1: Path, inpainting: Path) -> None:
    painters = [powerpaint(str(powerpaint_v1), version=1, base=str(inpainting), task="shape", fitting=f, **FAST) for f in (0.0, 0.5, 1.0)]
    pictures = [pixels(painter) for painter in painters]
    assert not np.array_equal(pictures[0], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])


def test_a_prompt_that_the_model_cannot_read_to_its_end_is_refused(v1: PowerPaintPainter) -> None:
    with pytest.raises(SampleError, match=r"the prompt has \d+ tokens, the model reads 77"):
        pixels(v1, plan=EditPlan("red", "blue", "a very long prompt " * 8, None))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_identity_holds_weights_settings_and_versions(version: str, request: pytest.FixtureRequest) -> None:
    known = dict(request.getfixturevalue(version).identity())
    assert json.dumps(known)
    assert known["weights"].count("sha256") == 2  # type: ignore[attr-defined]
    assert {"steps", "guidance", "scheduler", "preset", "task", "edition", "versions", "dtype"} <= set(known)


def test_identity_changes_with_a_single_weight_of_the_branch(v2: PowerPaintPainter, copy_v2: Path) -> None:
    assert powerpaint(str(copy_v2), **FAST).identity() == v2.identity()
    rewrite(copy_v2 / "PowerPaint_Brushnet" / "diffusion_pytorch_model.safetensors", lambda state: next(iter(state.values())).add_(1e-3))
    assert powerpaint(str(copy_v2), **FAST).identity() != v2.identity()


def test_missing_files_say_which_where_to_get_them_and_how_large(copy_v1: Path, copy_v2: Path, inpainting: Path, tmp_path: Path) -> None:
    text = failure(source=str(tmp_path / "none"))
    assert f"no folder at {tmp_path / 'none'}; get JunhaoZhuang/PowerPaint-v2-1 from the Hugging Face hub (about 8 GB" in text
    text = failure(source=str(inpainting.parent), version=1, base=str(inpainting))
    assert "lacks unet/unet.safetensors; get JunhaoZhuang/PowerPaint-v1 from the Hugging Face hub (about 4 GB)" in text
    (copy_v1 / "text_encoder" / "text_encoder.safetensors").unlink()
    assert "lacks text_encoder/text_encoder.safetensors" in failure(source=str(copy_v1), version=1, base=str(inpainting))
    (copy_v2 / "PowerPaint_Brushnet" / "pytorch_model.bin").unlink()
    assert "PowerPaint_Brushnet lacks model.safetensors or pytorch_model.safetensors or pytorch_model.bin" in failure(source=str(copy_v2))
    shutil.rmtree(copy_v2 / "PowerPaint_Brushnet")
    assert "lacks PowerPaint_Brushnet/" in failure(source=str(copy_v2))
    shutil.rmtree(copy_v2 / "realisticVisionV60B1_v51VAE")
    (copy_v2 / "PowerPaint_Brushnet").mkdir()


def test_a_missing_base_is_named(powerpaint_v2: Path, copy_v2: Path) -> None:
    shutil.rmtree(copy_v2 / "realisticVisionV60B1_v51VAE" / "vae")
    assert "lacks the weights or config.json of vae" in failure(source=str(copy_v2))
    shutil.rmtree(copy_v2 / "realisticVisionV60B1_v51VAE")
    assert "lacks model_index.json" in failure(source=str(copy_v2))
    elsewhere = powerpaint(str(copy_v2), base=str(powerpaint_v2 / "realisticVisionV60B1_v51VAE"), **FAST)
    assert pixels(elsewhere).shape == (64, 64, 3)


def damage(state: dict[str, torch.Tensor], how: str) -> None:
    name = sorted(key for key in state if key.endswith("weight"))[0]
    if how == "missing":
        state.pop(name)
    elif how == "not expected":
        state["unknown.weight"] = torch.zeros(2)
    else:
        state[name] = torch.zeros(3, 3)


@pytest.mark.parametrize("how", ["missing", "not expected", "of another shape"])
@pytest.mark.parametrize("file", ["unet/unet.safetensors", "text_encoder/text_encoder.safetensors", "branch"])
def test_a_single_wrong_weight_is_an_error(file: str, how: str, copy_v1: Path, copy_v2: Path, inpainting: Path) -> None:
    if file == "branch":
        path = copy_v2 / "PowerPaint_Brushnet" / "diffusion_pytorch_model.safetensors"
        options: dict[str, Any] = {"source": str(copy_v2)}
    else:
        path, options = copy_v1 / file, {"source": str(copy_v1), "version": 1, "base": str(inpainting)}
    rewrite(path, lambda state: damage(state, how))
    assert f"1 {how}, such as" in failure(**options)


def test_a_text_encoder_of_plain_stable_diffusion_is_refused(copy_v2: Path) -> None:
    branch = copy_v2 / "PowerPaint_Brushnet"
    state = powerpaint_text_state(518)
    state.pop("text_model.embeddings.token_embedding.trainable_embeddings.P_obj")
    torch.save(state, branch / "pytorch_model.bin")
    assert "is no text encoder of PowerPaint: it lacks" in failure(source=str(copy_v2))


def test_a_pickle_with_code_is_not_run(copy_v2: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"text_model.x": Evil()}, copy_v2 / "PowerPaint_Brushnet" / "pytorch_model.bin")
    assert "cannot read" in failure(source=str(copy_v2))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_it_is_registered_with_the_extra_that_it_needs(version: int) -> None:
    claim = build_plugins().find(EditorRecord, "powerpaint")
    assert claim.record.extra == "diffusion"
    assert claim.create(Painter, version=version).edition == version


def test_wrong_options_are_one_line(powerpaint_v2: Path) -> None:
    source = str(powerpaint_v2)
    assert "did you mean 'upstream'" in failure(VseamError, source=source, preset="upstreams")
    assert "task is 'removal'" in failure(VseamError, source=source, task="removal")
    assert "version is 3; expected 1 or 2" in failure(VseamError, source=source, version=3)
    assert "fitting is 2; expected a number from 0 to 1" in failure(VseamError, source=source, fitting=2)
    assert "conditioning_scale is nan" in failure(VseamError, source=source, conditioning_scale=float("nan"))


@pytest.mark.parametrize("version", [1, 2])
def test_the_default_scheduler_paints_and_differs_from_ddim(version: int, request: pytest.FixtureRequest) -> None:
    other = request.getfixturevalue(f"v{version}")
    sources = {1: ("powerpaint_v1", "inpainting"), 2: ("powerpaint_v2", None)}[version]
    source, base = (str(request.getfixturevalue(name)) if name else None for name in sources)
    options = {key: value for key, value in FAST.items() if key != "scheduler"}
    painter = powerpaint(source, version=version, base=base, **options)
    assert type(painter.pipeline().scheduler).__name__ == "UniPCMultistepScheduler"
    assert np.array_equal(pixels(painter, 1), pixels(painter, 1))
    assert not np.array_equal(pixels(painter, 1), pixels(other, 1))


def test_images_of_any_working_size_are_painted(v2: PowerPaintPainter) -> None:
    image, mask = ball((200, 30, 35))
    size = v2.working_size(image.size)
    assert size == (80, 64)
    wide = np.asarray(Image.fromarray(mask).resize(size))
    assert v2.paint(image.resize(size), wide, PLAN, 0).size == size
