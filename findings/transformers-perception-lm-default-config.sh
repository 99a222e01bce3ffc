#!/usr/bin/env bash
# transformers 5.23.0 and 5.24.0: the default configuration of PerceptionLM cannot make its model. PerceptionLMConfig() takes timm's resnet50 for the
# vision tower, with model_args None; the projector then reads model_args["embed_dim"].
#
# Whoever meets it: everybody who builds a small PerceptionLM from its configuration (tests, scripts that walk over all types). Published checkpoints
# name architecture and model_args themselves.
#
# Expected: PerceptionLMForConditionalGeneration(PerceptionLMConfig()) makes a model, or a line that says what the vision tower needs.
# Observed: TypeError: 'NoneType' object is not subscriptable. Shown on the projector alone, which needs no timm; the whole model fails alike.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.23.0" numpy pillow
cat > "$work/default.py" <<'PYTHON'
import transformers
from transformers import PerceptionLMConfig
from transformers.models.perception_lm.modeling_perception_lm import PerceptionLMMultiModalProjector


def said(config):
    try:
        PerceptionLMMultiModalProjector(config)
    except TypeError as error:
        return f"TypeError: {error}"
    return "made"


by_default = PerceptionLMConfig()
vision = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384", "model_args": {"embed_dim": 64}}
named = PerceptionLMConfig(vision_config=vision)
print("transformers", transformers.__version__, "tower by default:", by_default.vision_config.architecture, by_default.vision_config.model_args)
print("  by default:", said(by_default))
print("  with model_args:", said(named))
assert transformers.__version__ in ("5.23.0", "5.24.0")
assert said(by_default) == "TypeError: 'NoneType' object is not subscriptable"
assert said(named) == "made"
PYTHON
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore "$work/default.py"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore "$work/default.py"
echo "observed: the default configuration of PerceptionLM makes no model"
