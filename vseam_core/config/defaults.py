"""The built-in plugins that studies and commands use where nothing else is named: the only names of plugins that the core knows."""

from __future__ import annotations

OPERATION = "resample"
"""What a scan and an ablation put in place of a head."""

EVALUATED_OPERATION = "zero"
"""What an evaluation puts in place of the heads that it ablates."""

RESCALING = "scale"
"""The head intervention that multiplies heads by factors (its option `factors`)."""

TRACER = "tokenwise"
EDITOR = "scenes"
