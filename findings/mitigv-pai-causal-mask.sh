#!/usr/bin/env bash
# mitigv 0.1.7: its PAI (image attention turned up) computes attention without the causal mask in the layers that it changes, unless the model
# was loaded with eager attention. transformers gives layers no mask with sdpa, its default: causal goes without saying there. PAI's own
# attention adds the mask that it is given, and none otherwise, so that words of the prompt look at the words after them.
#
# Whoever meets it: with an amplification of nearly nothing (alpha 1e-9), which should leave the model as it is, the logits change as much as with a
# real one. Results of PAI by this package on a model loaded as usual are those of another model.
#
# Expected: nearly the model's own logits with alpha 1e-9. Observed: nearly so with eager attention, far from them with sdpa.
#
# The decoder is handed over by hand (language_model): this version does not find it in a LLaVA of transformers 5.23.0 by itself, and says
# so ("PAI attention intervention needs a language model with a .layers self-attention stack").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "mitigv==0.1.7" "transformers==5.23.0" "torch==2.13.0" numpy pillow
"$work/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from mitigv import build_mitigator, load_mitigator
from mitigv.backends.factory import adapt_vision_language
from transformers import BatchFeature, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

print("mitigv", importlib.metadata.version("mitigv"), "transformers", importlib.metadata.version("transformers"))
torch.manual_seed(0)
text = LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, vocab_size=60
)
vision = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_seq_length=4)
model = LlavaForConditionalGeneration(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.25) if parameter.ndim > 1 else None
inputs = {
    "input_ids": torch.tensor([[1, 3, 3, 3, 3, 11, 12, 13, 14, 15]]),
    "attention_mask": torch.ones(1, 10, dtype=torch.long),
    "pixel_values": torch.randn(1, 3, 16, 16),
}


class Tokenizer:
    eos_token_id, pad_token_id = 2, 0

    def batch_decode(self, ids, **_):
        return [" ".join(map(str, row.tolist())) for row in ids]


class Processor:
    tokenizer = Tokenizer()

    def __call__(self, **_):
        return BatchFeature(dict(inputs))


def first_logits(attention, alpha):
    model.set_attn_implementation(attention)
    adapted, processor = adapt_vision_language("llava", model, Processor())
    adapted.language_model = model.model.language_model
    pai = build_mitigator("pai", adapted, processor, alpha=alpha, gamma=1.0, start_layer=0, max_new_tokens=1)
    seen = []
    original = pai._sample_next
    pai._sample_next = lambda logits, cfg: (seen.append(logits[0].clone()), original(logits, cfg))[1]
    pai.generate(None, "<image> ?")
    return seen[0]


try:
    load_mitigator("pai", model=model, processor=Processor(), max_new_tokens=1, start_layer=0).generate(None, "<image> ?")
except RuntimeError as error:
    print("without help:", str(error)[:90])
else:
    raise SystemExit("it finds the decoder by itself now")
with torch.no_grad():
    own = model(**inputs).logits[0, -1]
far = {attention: float((first_logits(attention, 1e-9) - own).abs().max()) for attention in ("eager", "sdpa")}
print("largest change of a logit by alpha 1e-9:", far, "of logits of size", float(own.abs().max()))
assert far["eager"] < 1e-4 and far["sdpa"] > 0.01
print("observed: with sdpa an amplification of nothing changes the logits, with eager attention it does not")
PYTHON
