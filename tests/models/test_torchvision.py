"""With torchvision installed beside torch: processors that need it, and those that are given Pillow's pixels all the same.

`make test-torchvision` makes an environment for these; elsewhere they are skipped.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor

from tests.models.builders import picture
from tests.models.checkpoints import RECIPES, build_checkpoint
from tests.models.own_recipes import OWN_BY_TORCHVISION
from tests.models.recipes import BY_TORCHVISION
from tests.models.test_places import QUESTION, SIZES, check_places
from vseam_core.api.interventions import AnswerIds
from vseam_core.engine.selfcheck import checked_engine
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision: make test-torchvision")
# One of each way of cutting an image up, all with both back ends.
BOTH = ("llava", "qwen2_5_vl", "gemma3", "internvl", "idefics3", "pixtral_llava")
ANSWER = AnswerIds((20,), (21,), (20,))


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    return load(request.param, tmp_path_factory.mktemp("torchvision") / request.param)


def load(family: str, folder: Path) -> HuggingFaceModel:
    return hf.load(family, str(build_checkpoint(family, folder)), device="cpu")


@pytest.mark.parametrize("model", BOTH, indirect=True)
def test_pixels_are_those_of_pillow_although_torchvision_is_there(model: HuggingFaceModel) -> None:
    image, used = picture(3, (90, 61)), model.processor.image_processor
    assert type(used).__name__.endswith("Pil")
    other = back_end(model, "torchvision")
    assert not type(other).__name__.endswith("Pil")
    mine, theirs = (float_pixels(one, image) for one in (used, other))
    encoded = model.encode(image, QUESTION).inputs["pixel_values"].float()
    assert torch.equal(encoded.flatten(), mine.flatten())
    # The two resample differently: that is why one of them is always taken.
    assert mine.shape == theirs.shape
    assert not torch.equal(mine, theirs)


@pytest.mark.parametrize("model", BOTH, indirect=True)
def test_a_prompt_through_the_other_back_end_is_the_same_but_for_resampling(
    model: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(3, (90, 61))
    ours = model.encode(image, QUESTION)
    monkeypatch.setattr(model.processor, "image_processor", back_end(model, "torchvision"))
    theirs = model.encode(image, QUESTION)
    assert (ours.ids, ours.classes, ours.image_boxes) == (theirs.ids, theirs.classes, theirs.image_boxes)
    assert ours.key != theirs.key, "other pixels are another prompt"
    one, other = (prompt.inputs["pixel_values"].float() for prompt in (ours, theirs))
    assert float((one - other).abs().mean()) < 0.05 * float(one.std())
    engine, record = checked_engine(model)
    assert record["engine"] == "ReplayEngine", record.get("fallback")
    with torch.no_grad():
        logits = model.module(**model.collate([theirs]), use_cache=False).logits[0, -1].double().log_softmax(-1)
    assert engine.answers([theirs], [ANSWER])[0].logit_diff == pytest.approx(float(logits[20] - logits[21]), abs=1e-4)


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("model", ["pixtral_llava", "llama4"], indirect=True)
def test_positions_lie_where_processors_of_torchvision_put_them(model: HuggingFaceModel, size: tuple[int, int]) -> None:
    check_places(model, size)


@pytest.mark.parametrize("family", [*BY_TORCHVISION, *OWN_BY_TORCHVISION])
def test_a_family_whose_processor_torchvision_alone_has_is_replayed(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path / family)
    assert not type(model.processor.image_processor).__name__.endswith("Pil")
    _, record = checked_engine(model)
    assert record["engine"] == "ReplayEngine", record.get("fallback")


def test_a_saved_processor_of_torchvision_is_read_again_with_pillow(tmp_path: Path) -> None:
    """The hub's newer folders name the torchvision class: the pixels stay those of Pillow."""
    folder = build_checkpoint("llava", tmp_path / "llava")
    before = hf.load("mine", str(folder), device="cpu")
    AutoImageProcessor.from_pretrained(folder, backend="torchvision").save_pretrained(folder)
    after = hf.load("mine", str(folder), device="cpu")
    image = picture(5, (70, 40))
    assert torch.equal(before.encode(image, QUESTION).inputs["pixel_values"], after.encode(image, QUESTION).inputs["pixel_values"])
    assert set(BOTH) <= set(RECIPES)


def back_end(model: HuggingFaceModel, name: str) -> Any:
    return AutoImageProcessor.from_pretrained(model.info.source, backend=name)


def float_pixels(processor: Any, image: Any) -> torch.Tensor:
    found = processor(image, return_tensors="pt")["pixel_values"]
    return torch.as_tensor(found).float() if not isinstance(found, list) else torch.cat([torch.as_tensor(one).float() for one in found])
