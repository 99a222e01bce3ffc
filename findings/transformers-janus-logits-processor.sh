#!/usr/bin/env bash
# transformers 5.23.0: JanusForConditionalGeneration.generate() has a parameter `logits_processor` and, when it writes text (its default), never
# hands it on: the processor is not called once, and nothing is said. With any other model of the library it is called at every step.
#
# Whoever meets it: constrained decoding, watermarks, contrastive decoding and everything else that is a logits processor has no effect on Janus.
#
# Expected: the processor rules the token out. Observed: it is never called, the token is generated.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.23.0" numpy pillow
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import transformers
from transformers import JanusConfig, JanusForConditionalGeneration, LlamaConfig, LlamaForCausalLM

print("transformers", transformers.__version__)
assert transformers.__version__ == "5.23.0"
calls = []


def rules_out(ids, scores):
    calls.append(1)
    scores = scores.clone()
    scores[:, scores.argmax(-1)] = float("-inf")
    return scores


text = {"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "projection_dim": 16}
codes = {"base_channels": 32, "channel_multiplier": [1], "num_res_blocks": 1, "embed_dim": 8, "num_embeddings": 8, "latent_channels": 32}
torch.manual_seed(0)
janus = JanusForConditionalGeneration(JanusConfig(text_config=text, vision_config=vision, vq_config=codes)).eval()
llama = LlamaForCausalLM(LlamaConfig(**{name: value for name, value in text.items() if name != "model_type"})).eval()
ids = torch.tensor([[1, 5, 7]])
called, same = {}, {}
for name, model in (("llama", llama), ("janus", janus)):
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 1, "do_sample": False, "pad_token_id": 0, "eos_token_id": 31}
    plain = model.generate(ids, **settings)[0, -1]
    calls.clear()
    ruled = model.generate(ids, logits_processor=[rules_out], **settings)[0, -1]
    called[name], same[name] = len(calls), bool(plain == ruled)
    print(f"{name}: the processor was called {called[name]} times; the token is {'the same' if same[name] else 'another'}")
assert called["llama"] == 1 and not same["llama"]
assert called["janus"] == 0 and same["janus"]
print("observed: Janus never calls the logits processor")
PYTHON
