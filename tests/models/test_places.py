"""Where image positions lie in the image, family by family, against what the model itself does: a small square of the image is
changed, and the embeddings that change with it are those whose box it touches.

The whole path is the model's own: its processor, its vision tower, its projector, the place in the sequence where features land. Only
attention inside the vision tower is silenced, because it carries every change everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from tests.engine import configs
from vseam_core.api.types import ModelInfo
from vseam_core.engine.decoder import find_decoder
from vseam_core.errors import UnsupportedError
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel
from vseam_plugins.models.loading import Checkpoint

from .builders import randomise
from .checkpoints import RECIPES, build_checkpoint, build_tokenizer

QUESTION = "Is the cat red ?"
WITHOUT_PLACES = {
    "instructblip_llama": "a Q-Former mixes the whole image",
    "blip2_t5": "a Q-Former mixes the whole image",
    "mllama": "cross-attention",
}
# Those that say their grid as the others do are run by `make test-all`.
ALIKE = (
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_vl_moe",
    "exaone4_5",
    "paddleocr_vl",
    "video_llama_3",
    "glm4v",
    "glm4v_moe",
    "glm46v",
    "git",
    "t5gemma2",
)
FAMILIES = (
    "vipllava", "llava_next", "llava_onevision", "internvl", "aya_vision", "idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl",
    "paligemma", "gemma3", "gemma4", *(pytest.param(family, marks=pytest.mark.slow) for family in ALIKE),
)  # fmt: skip
SIZES = {"wide": (96, 36), "tall": (30, 100)}
CELLS = 12
"""Squares a side; fewer where the tests have to be quick."""


class Enough(Exception):
    """Ends a forward pass once the decoder's first layer has been given its input."""


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    family: str = request.param
    return hf.load(family, str(build_checkpoint(family, tmp_path_factory.mktemp("places") / family)), device="cpu")


@contextmanager
def silent_vision(module: Any) -> Iterator[None]:
    """Attention modules outside the language model output zeros."""
    text = set(find_decoder(module).layers[0].module.modules()) | {
        m for layer in find_decoder(module).layers for m in layer.module.modules()
    }
    handles = [
        part.register_forward_hook(lambda _, args, output: _zeros(output))
        for part in module.modules()
        if type(part).__name__.endswith(("Attention", "Attention2", "AttentionV2")) and part not in text
    ]
    assert handles
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _zeros(output: Any) -> Any:
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


@torch.no_grad()
def image_embeddings(model: HuggingFaceModel, image: Image.Image) -> np.ndarray:
    """What stands at the image positions before the decoder's first layer, `[image positions, width]`."""
    prompt, kept = model.encode(image, QUESTION), []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.append((args[0] if args else kwargs["hidden_states"])[0])
        raise Enough

    handle = find_decoder(model.module).layers[0].module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with silent_vision(model.module):
            model.module(**model.collate([prompt]))
    except Enough:
        pass
    finally:
        handle.remove()
    return kept[0][list(prompt.positions("image"))].double().numpy()


def responses(model: HuggingFaceModel, size: tuple[int, int], cells: int) -> tuple[np.ndarray, np.ndarray]:
    """How much each image position changes with each of cells × cells squares, `[cells, positions]`, and the cells' boxes."""
    width, height = size
    plain = np.full((height, width, 3), 128, dtype=np.uint8)
    base = image_embeddings(model, Image.fromarray(plain))
    edges_x, edges_y = np.linspace(0, width, cells + 1).round().astype(int), np.linspace(0, height, cells + 1).round().astype(int)
    changes, boxes = [], []
    for row in range(cells):
        for column in range(cells):
            x0, x1, y0, y1 = edges_x[column], edges_x[column + 1], edges_y[row], edges_y[row + 1]
            changed = plain.copy()
            changed[y0:y1, x0:x1] = 255
            changes.append(np.linalg.norm(image_embeddings(model, Image.fromarray(changed)) - base, axis=1))
            boxes.append((x0 / width, y0 / height, x1 / width, y1 / height))
    return np.array(changes), np.array(boxes)


@pytest.mark.parametrize("model", FAMILIES, indirect=True)
def test_a_position_changes_with_its_own_part_of_the_image_and_no_other(model: HuggingFaceModel) -> None:
    check_places(model, SIZES["wide"], 8)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", FAMILIES, indirect=True)
def test_a_position_changes_with_its_own_part_of_a_finer_image(model: HuggingFaceModel, size: str) -> None:
    check_places(model, SIZES[size])


@pytest.mark.parametrize("family", ["pixtral_llava", "mistral3"])
def test_rows_with_breaks_lie_where_pixtral_puts_them(family: str) -> None:
    """The library's own processor needs torchvision: the model is asked with a processor of the test's, on the library's pixels."""
    recipe = RECIPES[family]
    with patch.object(configs, "LAYERS", 2):
        module = getattr(transformers, recipe.model)(recipe.config()).eval()
    randomise(module, 0)
    processor = BrokenRows(build_tokenizer(recipe), 8 if family == "pixtral_llava" else 16)
    info = ModelInfo(family, module.config.model_type, "", "", "float32", "sdpa", "cpu", 2, 4, 16)
    check_places(HuggingFaceModel(Checkpoint(module, processor, info), "[IMG] {question}"), SIZES["wide"])


class BrokenRows:
    """Writes rows of `[IMG]`, each ended by a mark, for the pixels that the library's image processor makes."""

    chat_template = None

    def __init__(self, tokenizer: Any, step: int) -> None:
        self.tokenizer, self._step = tokenizer, step
        self.image_processor = PixtralImageProcessorPil(size={"longest_edge": 96}, patch_size={"height": step, "width": step})

    def __call__(self, images: Any, text: list[str], **_: Any) -> dict[str, torch.Tensor]:
        pixels = self.image_processor(images, return_tensors="pt")
        height, width = (int(value) // self._step for value in pixels["image_sizes"][0])
        rows = ("[IMG]" * width + "[IMG_BREAK]") * height
        written = self.tokenizer(text[0].replace("[IMG]", rows.removesuffix("[IMG_BREAK]") + "[IMG_END]"), return_tensors="pt")
        sizes = torch.as_tensor([list(map(int, size)) for size in pixels["image_sizes"]])
        values = pixels["pixel_values"]
        return {**{name: written[name] for name in ("input_ids", "attention_mask")}, "pixel_values": values, "image_sizes": sizes}


def check_places(model: HuggingFaceModel, size: tuple[int, int], squares: int = CELLS) -> None:
    """Every box of an image's positions against what moves the position."""
    prompt = model.encode(Image.new("RGB", size), QUESTION)
    assert prompt.image_boxes is not None, prompt.notes
    changes, cells = responses(model, size, squares)
    assert len(prompt.image_boxes) == changes.shape[1]
    placed = 0
    for box, change in zip(np.array(prompt.image_boxes), changes.T, strict=True):
        area = (box[2] - box[0]) * (box[3] - box[1])
        if area == 0:
            assert change.max() < 1e-9, "a position without a place changes with nothing"
            continue
        # Resampling carries a change a few pixels over the edge of a patch: a margin of the size of one, where little is left.
        margin = np.maximum(0.5 * (box[2:] - box[:2]), 4 / np.array(size))
        far = (
            (cells[:, 2] <= box[0] - margin[0]) | (cells[:, 0] >= box[2] + margin[0])
            | (cells[:, 3] <= box[1] - margin[1]) | (cells[:, 1] >= box[3] + margin[1])
        )  # fmt: skip
        inside = (
            (cells[:, 0] >= box[0] - 1e-9)
            & (cells[:, 2] <= box[2] + 1e-9)
            & (cells[:, 1] >= box[1] - 1e-9)
            & (cells[:, 3] <= box[3] + 1e-9)
        )
        assert change.max() > 1e-3
        assert change[far].max(initial=0) < 0.05 * change.max(), "nothing far away moves it"
        if inside.any():
            assert change[inside].max() > 0.3 * change.max(), "what lies inside moves it"
        centres = (cells[:, :2] + cells[:, 2:]) / 2
        weighted = (change[:, None] * centres).sum(0) / change.sum()
        middle = (box[:2] + box[2:]) / 2
        assert (np.abs(weighted - middle) <= 0.35 * (box[2:] - box[:2]) + 1 / squares).all()
        placed += 1
    assert placed >= 4


def test_every_cell_of_the_image_is_seen_by_a_position(tmp_path: Path) -> None:
    model = hf.load("next", str(build_checkpoint("llava_next", tmp_path / "next")), device="cpu")
    for size in ((96, 48), (45, 100), (64, 64), (33, 200)):
        prompt = model.encode(Image.new("RGB", size), QUESTION)
        assert prompt.image_boxes is not None
        assert prompt.image_boxes.count((0.0, 0.0, 0.0, 0.0)) >= 4, "a mark at the end of each row"
        for x, y in np.random.default_rng(0).random((50, 2)):
            assert sum(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in prompt.image_boxes) in (1, 2)


@pytest.mark.parametrize("model", WITHOUT_PLACES, indirect=True)
def test_families_without_places_say_why(model: HuggingFaceModel) -> None:
    prompt = model.encode(Image.new("RGB", (60, 40)), QUESTION)
    assert prompt.image_boxes is None
    with pytest.raises(UnsupportedError, match=WITHOUT_PLACES[model.info.name]):
        prompt.image_positions_in([(0, 0, 1, 1)], (60, 40))


@pytest.mark.parametrize("family", ["idefics3", "internvl", "qwen2_vl", "llava_onevision", "gemma3", "aya_vision"])
def test_the_layout_fits_images_of_any_shape(family: str, tmp_path: Path) -> None:
    """However long or small an image is, there is a box for each position (a mismatch would be a reason instead)."""
    model = hf.load(family, str(build_checkpoint(family, tmp_path / family)), device="cpu")
    for size in ((30, 30), (31, 29), (200, 33), (33, 130), (97, 64), (640, 480), (481, 640)):
        prompt = model.encode(Image.new("RGB", size), QUESTION)
        assert prompt.image_boxes is not None, (size, prompt.notes)
    assert family in RECIPES
