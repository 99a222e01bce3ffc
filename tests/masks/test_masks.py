"""Mask providers: boxes and ellipses against counted pixels, SAM and Grounding DINO on tiny checkpoints in the real layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vseam_core.errors import SampleError, VseamError
from vseam_core.testing import MaskProviderConformance
from vseam_core.testing.editing import PLAN
from vseam_core.testing.images import BOX, SIZE, sample
from vseam_plugins.masks.box import BoxMask, EllipseMask
from vseam_plugins.masks.sam import GroundedSamMask, SamMask


class TestBox(MaskProviderConformance):
    def make(self) -> BoxMask:
        return BoxMask()


class TestEllipse(MaskProviderConformance):
    def make(self) -> EllipseMask:
        return EllipseMask()


def test_a_box_is_padded_by_a_share_and_cut_at_the_edge() -> None:
    x0, y0, x1, y1 = map(int, BOX)
    plain = BoxMask(padding=0).mask(sample(), PLAN)
    assert plain.sum() == (x1 - x0) * (y1 - y0)
    assert plain[y0:y1, x0:x1].all()
    wide = BoxMask(padding=0.25).mask(sample(), PLAN)
    assert wide[y0 - 6 : y1 + 6, x0 - 6 : x1 + 6].all()
    assert wide.sum() == (x1 - x0 + 12) * (y1 - y0 + 12)
    everything = BoxMask(padding=9).mask(sample(), PLAN)
    assert everything.all()
    two = replace(PLAN, boxes=((0, 0, 2, 3), (10, 10, 11, 11)))
    assert BoxMask(padding=0).mask(sample(), two).sum() == 7


def test_an_ellipse_fills_its_share_of_the_box() -> None:
    found = EllipseMask(padding=0).mask(sample(), PLAN)
    x0, y0, x1, y1 = BOX
    assert found.sum() == pytest.approx(np.pi / 4 * (x1 - x0) * (y1 - y0), rel=0.05)
    assert not found[int(y0), int(x0)]
    assert found[int((y0 + y1) / 2), int((x0 + x1) / 2)]


def test_no_box_or_one_outside_the_image_is_refused() -> None:
    with pytest.raises(SampleError, match=r"needs a box of 'red'.*--mask grounded-sam"):
        BoxMask().mask(sample(), replace(PLAN, boxes=()))
    with pytest.raises(SampleError, match="outside the image"):
        BoxMask().mask(sample(), replace(PLAN, boxes=((500, 500, 600, 600),)))
    with pytest.raises(VseamError, match="padding"):
        BoxMask(padding=-1)


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import SamConfig, SamImageProcessorPil, SamModel, SamProcessor

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16, "mlp_dim": 32,
        "output_channels": 16, "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8,
    }  # fmt: skip
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    encoder = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    folder = tmp_path_factory.mktemp("sam")
    module = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=encoder, mask_decoder_config=decoder))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module.save_pretrained(folder)
    size = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    SamProcessor(SamImageProcessorPil(**size, mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16})).save_pretrained(
        folder
    )
    return folder


def test_sam_segments_in_the_box_what_the_library_segments(sam: Path) -> None:
    from transformers import SamModel, SamProcessor

    found = SamMask(str(sam)).mask(sample(), PLAN)
    module, processor = SamModel.from_pretrained(sam).eval(), SamProcessor.from_pretrained(sam)
    inputs = processor(images=sample().image.load(), input_boxes=[[list(BOX)]], return_tensors="pt")
    with torch.no_grad():
        output = module(**inputs)
    masks: Any = processor.image_processor.post_process_masks(output.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"])
    best = masks[0][0, int(output.iou_scores[0, 0].argmax())].numpy()
    assert found.shape == (SIZE[1], SIZE[0])
    assert found.any()
    assert np.array_equal(found, best)
    identity = SamMask(str(sam)).identity()
    assert identity == SamMask(str(sam)).identity()
    assert len(str(identity["weights"])) >= 16


def test_without_a_connection_the_cache_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_connection(*_: object, **__: object) -> None:
        raise OSError("no connection")

    def not_there(source: str, local_files_only: bool) -> None:
        asked.append(local_files_only)
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_connection)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", not_there)
    with pytest.raises(VseamError, match=r"no weights at facebook/sam-vit-base: .*not in the cache"):
        SamMask().mask(sample(), PLAN)
    assert asked == [True]


def test_a_checkpoint_that_is_missing_of_another_kind_or_incomplete_is_one_line(sam: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(VseamError, match=r"mask 'sam': no weights at .*nowhere: .*facebook/sam-vit-base") as caught:
        SamMask(str(tmp_path / "nowhere"), local_files_only=True).mask(sample(), PLAN)
    assert "\n" not in str(caught.value)
    with pytest.raises(VseamError, match="holds a 'sam' model, expected grounding-dino"):
        GroundedSamMask(str(sam), detector=str(sam)).mask(sample(), replace(PLAN, boxes=()))
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in sam.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    lost = sorted(name for name in tensors if name.startswith("vision_encoder"))[0]
    save_file({name: value for name, value in tensors.items() if name != lost}, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VseamError, match=f"lacks 1 weights, such as {lost}"):
        SamMask(str(broken)).mask(sample(), PLAN)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        PreTrainedTokenizerFast,
        SwinConfig,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("detector")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "dog", "blue"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {name: f"[{name.split('_')[0].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 160, "longest_edge": 256}).save_pretrained(folder)
    stages = ["stage2", "stage3", "stage4"]
    swin = SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, image_size=32, out_features=stages)
    bert = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config = GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6, num_feature_levels=4, max_text_len=16,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    return folder


def test_words_become_boxes_and_boxes_a_mask(sam: Path, detector: Path) -> None:
    provider = GroundedSamMask(str(sam), detector=str(detector), threshold=0.0, most=2)
    boxes = provider.boxes(sample().image.load(), "dog")
    assert 1 <= len(boxes) <= 2
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= SIZE[0]
        assert 0 <= y0 < y1 <= SIZE[1]
    found = provider.mask(sample(), replace(PLAN, boxes=(), find="dog"))
    each = [SamMask(str(sam)).mask(sample(), replace(PLAN, boxes=(box,))) for box in boxes]
    assert np.array_equal(found, np.logical_or.reduce(each))
    with pytest.raises(SampleError, match="finds no 'dog' with a score of 1"):
        GroundedSamMask(str(sam), detector=str(detector), threshold=1.0).mask(sample(), replace(PLAN, boxes=(), find="dog"))
    with pytest.raises(VseamError, match="threshold from 0 to 1"):
        GroundedSamMask(threshold=2)
