#!/usr/bin/env bash
# transformers 5.24.0 (5.23.0 too): the rows of `cross_attentions` that T5Gemma2ForConditionalGeneration returns do not add up to 1, nor do those of
# `decoder_attentions`. Its decoder has one softmax over its own keys and the encoder's; the weights are cut in two behind it and returned under
# the two usual names, documented as weights behind the softmax. The share that is missing is on the other list. For the same reason
# a forward hook on a decoder layer's `k_proj` or `v_proj` is called twice in one pass: for the decoder's own rows, then for the encoder's.
#
# Whoever meets it: everybody who draws where the decoder looks, or compares it between layers or with T5 and BART, where each row adds up to 1:
# a head that looks at the image with all the weight it gives the encoder may give the encoder a tenth of its weight. And everybody who patches
# keys or values by a hook: the first call's rows are not the second call's.
#
# Expected: each row of `cross_attentions` adds up to 1. Observed: well below 1, with the rest in `decoder_attentions`; two calls of one hook.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.24.0" numpy pillow
"$work/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import T5Gemma2Config, T5Gemma2ForConditionalGeneration

text = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "layer_types": ["full_attention"] * 2,
}
vision = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
}
config = T5Gemma2Config(
    encoder={"text_config": text, "vision_config": vision, "image_token_index": 100, "mm_tokens_per_image": 4}, decoder=text,
    image_token_index=100,
)
torch.manual_seed(0)
model = T5Gemma2ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
calls = []
projection = model.model.decoder.layers[0].self_attn.k_proj
projection.register_forward_hook(lambda module, args, output: calls.append(output.shape[1]))
words, start = torch.tensor([[1, 5, 6, 7, 8, 9, 10]]), torch.tensor([[1, 20, 21]])
with torch.no_grad():
    output = model(
        input_ids=words, attention_mask=torch.ones_like(words), decoder_input_ids=start, output_attentions=True, use_cache=False
    )
print("transformers", transformers.__version__)
cross, own = output.cross_attentions[0].sum(-1), output.decoder_attentions[0].sum(-1)
print("cross_attentions:", tuple(output.cross_attentions[0].shape), "rows add up to", round(float(cross.min()), 3), "to", round(float(cross.max()), 3))
print("decoder_attentions:", tuple(output.decoder_attentions[0].shape), "rows add up to", round(float(own.min()), 3), "to", round(float(own.max()), 3))
print("positions at each call of a hook on k_proj:", calls)
assert transformers.__version__ == "5.24.0"
assert output.cross_attentions[0].shape[-1] == words.shape[1]
assert float(cross.max()) < 0.95, "every row of cross_attentions is well below 1"
assert torch.allclose(cross + own, torch.ones_like(cross), atol=1e-5), "the two lists together add up to 1"
assert calls == [start.shape[1], words.shape[1]], "one hook is called for the decoder's rows and for the encoder's"
print("observed: rows of cross_attentions do not add up to 1")
PYTHON
