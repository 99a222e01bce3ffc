"""Parts of a checkpoint that do not agree are one line when it is loaded, before anything is run."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vseam_core.errors import VseamError
from vseam_plugins.models import hf, loading
from vseam_plugins.models.agreement import _written_by

from .builders import picture
from .checkpoints import build_checkpoint

QUESTION = "Is the red dog left of the cat?"


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["llava-words"], tmp_path / "llava"))


@pytest.fixture
def instructblip(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["instructblip-words"], tmp_path / "instructblip"))


def failure(folder: Path, **options: Any) -> str:
    with pytest.raises(VseamError) as caught:
        hf.load("mine", str(folder), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_layers_that_the_configuration_has_no_place_for_are_refused(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(num_hidden_layers=1))
    text = failure(folder)
    assert "tensors that config.json has no place for, such as" in text
    assert "layers.1." in text


def test_adapter_tensors_among_the_weights_are_refused(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"language_model.lora_A.weight": torch.zeros(2, 2)}))
    assert "lora_A.weight" in failure(folder)


def test_other_spare_tensors_are_left_out_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_weights(folder, lambda tensors: tensors.update({"leftover": torch.zeros(2)}))
    with caplog.at_level(logging.WARNING, "vseam_plugins"):
        hf.load("mine", str(folder), device="cpu")
    assert "hold 1 tensor that config.json has no place for, such as leftover" in caplog.text


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    name = next(key for key in load_file(folder / "model.safetensors") if key.endswith("layers.0.self_attn.o_proj.weight"))
    change_weights(folder, lambda tensors: tensors.update({name: torch.zeros(32, 16)}))
    text = failure(folder)
    assert "o_proj.weight is (32, 16), config.json says (32, 32)" in text


@pytest.mark.parametrize(("whole", "expected"), [(True, "beside full weights"), (False, "a PEFT adapter alone")])
def test_an_adapter_is_refused_with_what_to_do(folder: Path, whole: bool, expected: str) -> None:
    (folder / "adapter_config.json").write_text("{}")
    if not whole:
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    text = failure(folder)
    assert expected in text
    assert "merge_and_unload" in text


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_says_what_it_is(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert f"{name} is a git-lfs pointer" in failure(folder)


def test_instructblip_without_its_second_tokenizer_is_refused(instructblip: Path) -> None:
    shutil.rmtree(instructblip / "qformer_tokenizer")
    assert "lacks qformer_tokenizer/" in failure(instructblip)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda settings: settings.update(patch_size=4), "patch_size is 4 there, 8 in config.json"),
        (lambda settings: settings.update(vision_feature_select_strategy="full"), "vision_feature_select_strategy is full there"),
        (lambda settings: settings["image_processor"]["crop_size"].update(height=16, width=16), "crop_size is 16 × 16 there, 32 × 32"),
    ],
)
def test_a_processor_that_is_at_odds_with_its_model_is_refused(folder: Path, edit: Callable[[Any], Any], expected: str) -> None:
    change(folder / "processor_config.json", edit)
    assert expected in failure(folder)


def test_an_image_token_of_another_id_is_refused(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(image_token_index=5, image_token_id=5))
    assert "the id of the image token '<image>' is" in failure(folder)


@pytest.mark.parametrize("family", ["paligemma", "gemma3", "aya_vision", "qwen2_5_vl", "idefics3", "mllama"])
def test_an_image_token_that_no_processor_writes_is_refused_in_every_family(family: str, tmp_path: Path) -> None:
    whole = build_checkpoint(family, tmp_path / family)
    hf.load("mine", str(whole), device="cpu")
    own = {"image_token_id", "image_token_index"}
    change(whole / "config.json", lambda config: config.update(dict.fromkeys(own & set(config), 7)))
    assert "the id of the image token" in failure(whole)


@pytest.mark.parametrize(("name", "value"), [("patch_size", 8), ("merge_size", 1), ("temporal_patch_size", 1)])
def test_an_image_processor_that_cuts_other_patches_is_refused(name: str, value: int, tmp_path: Path) -> None:
    whole = build_checkpoint("qwen2_5_vl", tmp_path / "qwen")
    change(whole / "processor_config.json", lambda settings: settings["image_processor"].update({name: value}))
    assert f"the image processor's {name} is {value} there" in failure(whole)


def test_instructblip_of_the_hub_without_its_second_tokenizer_is_refused(
    instructblip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the library leaves it in its cache: a repository that has no such folder."""
    snapshot = tmp_path / "models--org--blip" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    instructblip.rename(snapshot)
    (tmp_path / "models--org--blip" / "refs").mkdir()
    (tmp_path / "models--org--blip" / "refs" / "main").write_text("0" * 40)
    for name in ("huggingface_hub.file_download", "transformers.utils.hub"):
        monkeypatch.setattr(f"{name}.constants.HF_HUB_CACHE", str(tmp_path))
    model = hf.load("mine", "org/blip", device="cpu", local_files_only=True)
    assert len(model.processor.qformer_tokenizer) < len(model.tokenizer), "its own, which has no token for an image"
    shutil.rmtree(snapshot / "qformer_tokenizer")
    with pytest.raises(VseamError, match="org/blip lacks qformer_tokenizer/"):
        hf.load("mine", "org/blip", device="cpu", local_files_only=True)


def test_a_missing_number_of_query_tokens_is_taken_from_the_configuration(instructblip: Path) -> None:
    change(instructblip / "processor_config.json", lambda settings: settings.pop("num_query_tokens"))
    assert hf.load("mine", str(instructblip), device="cpu").encode(picture(), QUESTION).classes.count("image") == 5


@pytest.mark.parametrize("claim", [{"num_hidden_layers": 1_000_000}, {"hidden_size": 10**12}, {"num_hidden_layers": -1}])
def test_numbers_that_no_model_has_are_refused_before_anything_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch, claim: dict[str, int]
) -> None:
    import transformers

    change(folder / "config.json", lambda config: config["text_config"].update(claim))
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda **_: pytest.fail("the configuration was built"))
    ((name, value),) = claim.items()
    assert f"{name} {value}: expected at most" in failure(folder)
    assert f"{name} {value}" in hf.describe("mine", str(folder)).problem


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_a_model_many_times_larger_than_its_weights_is_refused_before_room_is_made_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    import transformers

    change(folder / "config.json", lambda config: config.update({part: {"model_type": config[part]["model_type"]}}))
    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", lambda *_, **__: pytest.fail("the model was built"))
    monkeypatch.setattr(loading, "check_processor", lambda *_: None)
    assert "for which its weights" in failure(folder)


def test_an_impossible_header_is_refused_before_anything_is_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda **_: pytest.fail("the configuration was built"))
    (folder / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert "cannot read the weights in" in failure(folder)


def test_a_chat_template_that_is_given_up_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "chat_template.jinja").write_text("{{ 'hello' }}")
    with caplog.at_level(logging.WARNING, "vseam_core"):
        hf.load("mine", str(folder), device="cpu")
    assert "the checkpoint's chat template is not used: it writes the question 0 times" in caplog.text


@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
@pytest.mark.parametrize("size", [(65, 1), (1, 65)])
def test_an_image_of_one_row_has_no_places_and_ends_nothing(tmp_path: Path, family: str, size: tuple[int, int]) -> None:
    pytest.importorskip("num2words")
    model = hf.load("mine", str(build_checkpoint(family, tmp_path / family)), device="cpu")
    try:
        prompt = model.encode(picture(size=size), "Is the dog red ?")
    except VseamError:
        return  # the processor itself refuses it: the sample is skipped
    assert prompt.image_boxes is None or len(prompt.image_boxes) == prompt.classes.count("image")


@pytest.mark.parametrize("layer", [99, -99, [1, 99]])
def test_a_layer_of_the_vision_tower_that_is_not_there_is_refused(folder: Path, layer: int | list[int]) -> None:
    change(folder / "config.json", lambda config: config.update(vision_feature_layer=layer))
    assert "99: its vision tower has" in failure(folder)


def test_attention_that_has_to_be_fetched_keeps_nobody_from_describing_a_checkpoint(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(_attn_implementation="kernels-community/flash-attn"))
    assert hf.describe("mine", str(folder)).layers == 2


@pytest.mark.parametrize(
    "content", ["[]", '{"weight_map": {"a": 5}}', '{"weight_map": {"a": ["x"]}}', '{"weight_map": {"a": "\\u0000"}}', "[" * 9000]
)
def test_an_index_of_weights_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    assert "is not an index of safetensors files" in failure(folder)


def test_what_a_processor_writes_for_an_image_is_looked_for_in_the_methods_that_it_calls() -> None:
    """Llama 4 writes its patches in a method of their own: the model's image token is one of them, and none that only its tokenizer has."""
    from transformers.models.llama4.processing_llama4 import Llama4Processor

    written = _written_by(Llama4Processor)
    assert "<|patch|>" in written
    assert "<|python_start|>" not in written
    assert _written_by(object) == ""
