"""What tracers read of each head, set beside the effects of a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.analysis.beside_effects import BESIDE_COLUMNS, reading_beside_effect
from vseam_core.analysis.frames import nullable_frame
from vseam_core.analysis.traces import PairTrace
from vseam_core.results.scoring import ScoredHeads

if TYPE_CHECKING:
    import pandas as pd

EFFECTS = {"signed": False, "size": True}
READ_ON = "clean"
"""The image whose readings are compared: heads are scanned on clean images."""


def readings_beside_effects(named: Mapping[str, str], traces: Sequence[PairTrace], scanned: ScoredHeads, seed: int) -> pd.DataFrame:
    """A row of `BESIDE_COLUMNS` for each reading that is named, with the signed effect and with its size.

    Effects are those of the samples that were drawn without a look at their answer.
    """
    effects, sampled = scanned.effects, scanned.sampled
    rows = []
    for site, words in named.items():
        found = [trace for trace in traces if trace.effect.site_kind == site and trace.effect.direction == READ_ON]
        for effect, absolute in EFFECTS.items() if found and sampled.any() else ():
            compared = reading_beside_effect(
                np.stack([trace.effect.values for trace in found]),
                [trace.cluster for trace in found],
                effects.values[sampled],
                effects.samples["image_id"][sampled].tolist(),
                absolute=absolute,
                seed=seed,
            )
            about = {
                "tracer": found[0].effect.tracer,
                "site_kind": site,
                "reading": words,
                "operation": effects.samples["operation"].iloc[0],
                "effect": effect,
            }
            rows.append({**about, **compared})
    return nullable_frame(rows, BESIDE_COLUMNS)
