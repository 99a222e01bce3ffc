#!/usr/bin/env bash
# transformers 5.24.0 (5.23.0 too): where words stand on a page does not reach the logits of UdopForConditionalGeneration when they come from its own
# processor. UdopProcessor takes and gives boxes of 0 to 1000 (its OCR does too), and the model's documentation names a range of 0 to
# max_2d_position_embeddings - 1; the model itself clips every box to 0..1. All coordinates of 1 and more become 1: each word has the embedding of the
# lower right corner and is read with the image's last patch, and the distances between words all lie beyond the last bucket.
#
# Whoever meets it: everybody who asks UDOP about a document by the documented way, and whoever traces or evaluates what layout does in it.
#
# Expected: other places of the same words, in the same order, give other logits. Observed: with the processor's boxes the logits are equal to
# the last bit (no warning); with the same boxes divided by 1000 they are not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.24.0" numpy pillow
"$work/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from PIL import Image
from transformers import UdopConfig, UdopForConditionalGeneration, UdopProcessor, UdopTokenizer
from transformers.models.layoutlmv3.image_processing_pil_layoutlmv3 import LayoutLMv3ImageProcessorPil

pieces = ["<pad>", "</s>", "<unk>", "\u2581", "\u2581invoice", "\u2581total", "\u2581date", "\u2581sum", "\u2581what"]
vocabulary = [(piece, 0.0 if index < 3 else -1.0) for index, piece in enumerate(pieces)]
tokenizer = UdopTokenizer(vocab=vocabulary, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", sep_token="</s>")
processor = UdopProcessor(LayoutLMv3ImageProcessorPil(apply_ocr=False, size={"height": 32, "width": 32}), tokenizer)
torch.manual_seed(0)
config = UdopConfig(
    vocab_size=128, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=4, image_size=32, patch_size=8,
    max_2d_position_embeddings=501, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
)
model = UdopForConditionalGeneration(config).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.4)
page, words = Image.effect_noise((32, 32), 80).convert("RGB"), ["invoice", "date", "total", "sum"]
# The same order from left to right and from top to bottom: crowded in one corner, and spread over the page.
crowded = [[20, 10, 60, 30], [80, 40, 120, 60], [140, 70, 180, 90], [200, 100, 240, 120]]
spread = [[20, 10, 260, 200], [300, 240, 500, 440], [520, 480, 740, 700], [760, 720, 980, 980]]


def last_logits(boxes, divided_by):
    given = processor(images=page, text=["what"], text_pair=[words], boxes=[boxes], return_tensors="pt")
    found = given["bbox"][0].tolist()
    assert all(box in found for box in boxes), "the processor hands boxes on as they are"
    given["bbox"] = given["bbox"] / divided_by
    with torch.no_grad():
        return model(**given, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False).logits[0, -1]


as_given, as_fractions = (float((last_logits(crowded, by) - last_logits(spread, by)).abs().max()) for by in (1, 1000))
print("transformers", transformers.__version__)
print("logits have a spread of", round(float(last_logits(spread, 1).std()), 2))
print("crowded against spread words: boxes as the processor gives them", as_given, "| divided by 1000", round(as_fractions, 3))
assert transformers.__version__ == "5.24.0"
assert as_given == 0.0, "places of words do not reach the logits"
assert as_fractions > 0.01, "as fractions they do"
print("observed: where words stand on a page does not reach UDOP's logits")
PYTHON
