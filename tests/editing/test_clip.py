"""The CLIP check on a tiny random checkpoint: margins against the model's own two towers, crops, and checkpoints that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from vseam_core.api.interfaces import EditPlan
from vseam_core.editing.clip import ClipMargin, concept_words, crop_box
from vseam_core.editing.composed import ComposedEditor
from vseam_core.editing.folder import EditFolder
from vseam_core.errors import VseamError

from .fakes import DrawnImage, FakePainter, FakePlanner, composed, sample

PLAN = EditPlan("red", "green", "a green car on a road", "No", region_prompt="a green car")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    text = {"vocab_size": len(tokens), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config={**text, "bos_token_id": 0, "eos_token_id": 1}, vision_config=vision, projection_dim=8))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def towers(checkpoint: Path, picture: Image.Image, words: str) -> float:
    """cos(image, text) by the two towers one after the other, each alone, without padding."""
    model = CLIPModel.from_pretrained(checkpoint).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(checkpoint)(picture, return_tensors="pt")["pixel_values"]
    ids = torch.tensor([CLIPTokenizer.from_pretrained(checkpoint)(f"a photo of {words}")["input_ids"]])
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0].double().numpy()
        said = model.text_projection(model.text_model(input_ids=ids).pooler_output)[0].double().numpy()
    return float(seen @ said / np.linalg.norm(seen) / np.linalg.norm(said))


def test_margins_equal_those_of_the_two_towers_alone(checkpoint: Path) -> None:
    clean, corrupt = DrawnImage(1).load(), DrawnImage(2).load()
    mask = np.zeros((36, 48), dtype=bool)
    mask[8:22, 10:26] = True
    checks = ClipMargin(str(checkpoint)).measure(clean, corrupt, mask, PLAN)
    for name, picture in (("clip_margin_before", clean), ("clip_margin_after", corrupt)):
        crop = picture.crop((8, 5, 27, 24))
        expected = towers(checkpoint, crop, "a green car") - towers(checkpoint, crop, "a red car")
        assert checks[name] == pytest.approx(expected, abs=1e-6)
    assert checks["clip_margin_before"] != checks["clip_margin_after"]


def test_the_crop_is_square_around_the_mask_and_stays_in_the_image() -> None:
    mask = np.zeros((100, 200), dtype=bool)
    mask[40:60, 100:110] = True
    assert crop_box(mask) == (93, 38, 117, 62)
    mask[:] = False
    mask[0:10, 190:200] = True
    assert crop_box(mask) == (188, 0, 200, 12)
    mask[:] = True
    assert crop_box(mask) == (0, 0, 200, 100)


def test_a_plan_without_words_is_not_looked_at(checkpoint: Path) -> None:
    clip = ClipMargin("nowhere at all")
    picture = DrawnImage().load()
    mask = np.ones((36, 48), dtype=bool)
    assert clip.measure(picture, picture, mask, EditPlan("", "", "", "No")) == {}
    assert clip.measure(picture, picture, mask, EditPlan("cat", "cat", "", "No")) == {}
    assert concept_words(EditPlan("cat", "dog", "", "No")) == ("dog", "cat")


def test_the_check_is_made_once_and_kept_with_the_edit(checkpoint: Path, tmp_path: Path) -> None:
    class Counting(ClipMargin):
        calls = 0

        def measure(self, *arguments):  # type: ignore[no-untyped-def]
            Counting.calls += 1
            return super().measure(*arguments)

    folder = EditFolder(tmp_path / "edits")

    def editor(check: ClipMargin | None) -> ComposedEditor:
        made = composed(folder, FakePainter(), FakePlanner())
        return ComposedEditor(made._recipe, folder, check)

    bare = editor(None).edit(sample())
    assert "clip_margin_after" not in bare.checks
    first = editor(Counting(str(checkpoint))).edit(sample())
    second = editor(Counting(str(checkpoint))).edit(sample())
    assert Counting.calls == 1
    assert first.checks == second.checks
    assert first.identifier == bare.identifier
    seen = first.checks["clip_margin_after"] > first.checks["clip_margin_before"]
    assert first.record is not None
    assert first.record.verdict == ("passed" if seen else "failed")


def test_a_checkpoint_that_is_none_is_one_line(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    picture = DrawnImage().load()
    with pytest.raises(VseamError, match="--clip no/where: cannot be loaded"):
        ClipMargin("no/where").margins([picture], "a", "b")
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(VseamError, match="expected a CLIP checkpoint, this is one of type 'bert'"):
        ClipMargin(str(bert)).margins([picture], "a", "b")


def test_missing_weights_are_never_hidden(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VseamError, match=r"lacks 1 weights, such as visual_projection.weight"):
        ClipMargin(str(broken)).margins([DrawnImage().load()], "a", "b")


def test_a_pickled_clip_checkpoint_is_not_read(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(checkpoint / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(VseamError, match="pickled ones are not read") as caught:
        ClipMargin(str(folder)).margins([Image.new("RGB", (16, 16))], "a", "b")
    assert "\n" not in str(caught.value)
