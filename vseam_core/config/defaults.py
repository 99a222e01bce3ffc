"""The built-in plugins that studies and commands use where nothing else is named: the only names of plugins that the core knows."""

from __future__ import annotations

from typing import Any

from vseam_core.api.types import ScanDirection

OPERATION = "resample"
"""What a scan and an ablation put in place of a head."""

PAIR_OPERATION = "patch"
"""What a scan puts in place of a head where a direction is named: only it has one."""

EVALUATED_OPERATION = "zero"
"""What an evaluation puts in place of the heads that it ablates."""

RESCALING = "scale"
"""The head intervention that multiplies heads by factors (its option `factors`)."""

TRACER = "tokenwise"
IMAGE_TRACER = "groups"
"""What `vseam trace --stack vision` traces with."""

EDITOR = "scenes"

EXPLAINED_TRACES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tokenwise", {"sites": ["attention_output", "mlp_output", "residual_after"], "measures": ["logit_diff"]}),
    ("lens", {"sites": ["residual_after"], "positions": ["question", "template", "last"], "measures": ["logit_diff", "top_token"]}),
    ("lens", {"sites": ["attention_output", "mlp_output"], "measures": ["logit_diff"]}),
    ("attention_maps", {"targets": ["question", "last"], "detail": "heads"}),
)
"""What `explain` traces, with the options of each tracer."""

EXPLAINED_HEADS: tuple[tuple[str, ScanDirection], ...] = (("patch", "noising"), ("patch", "denoising"), ("zero", "noising"))
"""What `explain` puts in place of each head, in which direction where there are two."""

UNNAMED_CHANGE = "blur"
"""What `explain` does to an image where nothing says, or nothing can paint, what is to be changed."""

NOISE = "noise"
"""What `explain --noise` does to an image."""
