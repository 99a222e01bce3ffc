#!/usr/bin/env bash
# transformers 5.24.0 (5.23.0 too): the logits that HunYuanVLForConditionalGeneration gives for a prompt depend on the place of the prompt in the
# batch. One axis of its rotation is the number of the image; the images are numbered through the whole batch, and not within each prompt. The
# first row is as if it were asked alone; the n-th row stands as if n - 1 images had come before its own.
#
# Whoever meets it: everybody who evaluates HunyuanOCR or another checkpoint of this type with more than one prompt to a batch, and whoever
# compares answers of runs with different batch sizes or orders of the questions.
#
# Expected: one prompt with one image, repeated, has the same logits in every row. Observed: 16 rows, 16 different logits; the difference from the
# prompt alone grows with every row (no NaN, no warning).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.24.0" numpy pillow
"$work/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import HunYuanVLConfig, HunYuanVLForConditionalGeneration

text = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "max_position_embeddings": 64, "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]},
}
vision = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "patch_size": 8,
    "out_hidden_size": 32, "text_hidden_size": 32, "spatial_merge_size": 2,
}
IMAGE, ROWS = 100, 16
config = HunYuanVLConfig(
    text_config=text, vision_config=vision, image_token_id=IMAGE, im_start_id=101, im_end_id=102, im_newline_id=103
)
torch.manual_seed(0)
model = HunYuanVLForConditionalGeneration(config).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.4)
# 4 x 4 patches, merged two by two: two rows of two features and a line break, between a beginning and an end.
ids = torch.tensor([[1, 5, 6, *[IMAGE] * 8, 7, 9]])
pixels, grid = torch.randn(16, 3 * 8 * 8), torch.tensor([[1, 4, 4]])


def last_logits(rows):
    tokens = ids.repeat(rows, 1)
    with torch.no_grad():
        return model(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), pixel_values=pixels.repeat(rows, 1),
            image_grid_thw=grid.repeat(rows, 1), mm_token_type_ids=(tokens == IMAGE).int(),
        ).logits[:, -1]


alone, together = last_logits(1), last_logits(ROWS)
apart = (together - alone).abs().amax(1)
print("transformers", transformers.__version__)
print("logits alone have a spread of", round(float(alone.std()), 2))
print("largest difference from the prompt alone, row by row:", [round(float(value), 3) for value in apart])
assert transformers.__version__ == "5.24.0"
assert float(apart[0]) < 1e-5, "the first row is as if alone"
assert bool((apart[1:] > apart[:-1] + 1e-3).all()), "every further row is farther from it"
print("observed: the same prompt has other logits in every row of the batch")
PYTHON
