#!/usr/bin/env bash
# transformers 5.24.0: every forward pass of Llama4ForConditionalGeneration ends in an AttributeError, with an image and without one, and so does
# generate(). The class reads `image_outputs` off the output of its language model, a Llama4ForCausalLM, which has no such field; in 5.23.0 the same
# calls work.
#
# Whoever meets it: everybody who runs Llama 4 Scout or Maverick with images on that release.
#
# Expected: logits. Observed: AttributeError: 'MoeCausalLMOutputWithPast' object has no attribute 'image_outputs'.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.23.0" numpy pillow
cat > "$work/llama4.py" <<'PYTHON'
import torch
import transformers
from transformers import Llama4Config, Llama4ForConditionalGeneration

text = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "intermediate_size_mlp": 16, "num_hidden_layers": 1, "head_dim": 8,
    "num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "pad_token_id": 0,
}
vision = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 4,
    "projector_input_dim": 16, "projector_output_dim": 16, "vision_output_dim": 16,
}
torch.manual_seed(0)
config = Llama4Config(text_config=text, vision_config=vision, image_token_index=30)
model = Llama4ForConditionalGeneration(config).eval()
ids = torch.tensor([[1, 5, 7]])
with_image = {"input_ids": torch.tensor([[1, *[30] * 4, 5]]), "pixel_values": torch.randn(1, 3, 16, 16)}


def said(call):
    try:
        call()
    except AttributeError as error:
        return f"AttributeError: {error}"
    return "works"


with torch.no_grad():
    found = {
        "text": said(lambda: model(input_ids=ids)),
        "text and image": said(lambda: model(**with_image)),
        "generate": said(lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, pad_token_id=0)),
    }
print("transformers", transformers.__version__)
for what, outcome in found.items():
    print(f"  {what}: {outcome}")
fails = "AttributeError: 'MoeCausalLMOutputWithPast' object has no attribute 'image_outputs'"
expected = "works" if transformers.__version__ == "5.23.0" else fails
assert transformers.__version__ in ("5.23.0", "5.24.0")
assert set(found.values()) == {expected}
PYTHON
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore "$work/llama4.py"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore "$work/llama4.py"
echo "observed: in 5.24.0 no forward pass of Llama4ForConditionalGeneration ends"
