#!/usr/bin/env bash
# PyTorch 2.13.0: a product of a CPU tensor with a "meta" tensor (a shape without numbers) raises nothing. It returns an ordinary CPU tensor
# of memory that nobody wrote. Adding the two raises an error, as one would expect of both.
#
# Whoever meets it: accelerate leaves a layer that it keeps on the disk or in the CPU's memory as meta tensors between forward passes, so code
# that reads such a model's weights (norms of heads, direct logit attribution) computes arbitrary numbers without a word.
#
# Expected: an error, or a meta tensor. Observed: a CPU tensor, no error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" numpy
"$work/venv/bin/python" - <<'PYTHON'
import torch

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
vectors, weight = torch.ones(3, 4), torch.empty(5, 4, device="meta")
product = vectors @ weight.T
print("product:", product.device, tuple(product.shape), product.dtype)
assert product.device.type == "cpu" and not product.is_meta and product.shape == (3, 5)
float(product.norm())  # usable like any other number
try:
    torch.ones(5, 4) + weight
except RuntimeError as error:
    print("sum:", str(error).splitlines()[0][:100])
else:
    raise SystemExit("the sum raises nothing either")
print("observed: the product is a CPU tensor and nothing was raised")
PYTHON
