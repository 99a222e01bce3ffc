"""What ablating a selected set of heads comes to: its effect beside that of matched random sets, from the rows of an ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE, frame_records, nullable_frame
from vseam_core.analysis.heads import Sign
from vseam_core.analysis.multiple_testing import FEWEST_SETS, permutation_p_value
from vseam_core.errors import counted

Row = Mapping[str, Any]

ABLATION_TEST_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("split", "sign", "operation", "heads", "measure"), TEXT),
    "n": WHOLE,
    **dict.fromkeys(("base", "effect", "effect_error", "mean_random", "p_value", "nats", "mean_random_nats", "p_nats"), NUMBER),
    "sets": WHOLE,
    "reason": TEXT,
}


@dataclass(frozen=True)
class AgainstRandom:
    """The effect of the selected heads and of each distinct random set, in one direction; p = (1 + #{random ≥ selected}) / (1 + N)."""

    selected: float
    random: tuple[float, ...]

    @property
    def mean_random(self) -> float | None:
        """The mean over random sets, or None without any."""
        return float(np.mean(self.random)) if self.random else None

    @property
    def p_value(self) -> float | None:
        """The share of sets, the selected one among them, whose effect is at least the selected one's; None below `FEWEST_SETS`."""
        return permutation_p_value(self.selected, self.random) if len(self.random) >= FEWEST_SETS else None


@dataclass(frozen=True)
class AblationEffect:
    """One ablated selection on the test pool beside its matched random sets.

    `effect` is in shares of 1 and points the way the claim does: the drop in accuracy for positive heads, the gain in pair accuracy
    (`measure` says so; accuracy where pairs are missing) for negative ones. `nats` is the same for the mean logit difference. `error`
    is that of the change in accuracy over images; None where it was not measured, or pair accuracy is shown.
    """

    split: str
    sign: Sign
    operation: str
    heads: tuple[str, ...]
    n: int
    measure: str
    base: float | None
    effect: AgainstRandom
    nats: AgainstRandom | None
    error: float | None


def ablation_effects(ablations: pd.DataFrame) -> list[AblationEffect]:
    """One effect per split, sign and operation that has a selected set, from an ablation table of one dataset; positive heads first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in frame_records(ablations):
        groups.setdefault((row["sign"], row["split"], row["operation"]), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: item[0][0] != "positive")
    chosen = [(rows, [row for row in rows if row["condition"] == "selected"]) for _, rows in ordered]
    return [_ablation_effect(selected[-1], rows) for rows, selected in chosen if selected]


def ablation_test_frame(ablations: pd.DataFrame) -> pd.DataFrame:
    """The same as a table, one row per effect, columns `ABLATION_TEST_COLUMNS`."""
    rows = []
    for found in ablation_effects(ablations):
        sets, nats = len(found.effect.random), found.nats
        row: dict[str, Any] = {name: getattr(found, name) for name in ("split", "sign", "operation", "measure", "n", "base")}
        row |= {"heads": " ".join(found.heads), "sets": sets, "effect": found.effect.selected, "effect_error": found.error}
        row |= {"mean_random": found.effect.mean_random, "p_value": found.effect.p_value}
        if nats is not None:
            row |= {"nats": nats.selected, "mean_random_nats": nats.mean_random, "p_nats": nats.p_value}
        few = sets < FEWEST_SETS
        row["reason"] = f"no p-value: {counted(sets, 'distinct set')} beside the selected one, at least {FEWEST_SETS} needed" if few else ""
        rows.append(row)
    return nullable_frame(rows, ABLATION_TEST_COLUMNS)


def _ablation_effect(selected: Row, rows: Sequence[Row]) -> AblationEffect:
    sign: Sign = selected["sign"]
    base = next((row for row in rows if row["condition"] == "base"), None)
    random = _distinct(row for row in rows if row["condition"] == "random" and row["size"] == selected["size"])
    everyone = [selected, *random]
    paired = sign == "negative" and base is not None and all(row["pair_accuracy"] is not None for row in (base, *everyone))
    if paired:
        assert base is not None
        changes = [row["pair_accuracy"] - base["pair_accuracy"] for row in everyone]
    else:
        changes = [row["drop"] if sign == "positive" else -row["drop"] for row in everyone]
    turn = 1.0 if sign == "positive" else -1.0
    nats = None if base is None else [turn * (base["mean_logit_diff"] - row["mean_logit_diff"]) for row in everyone]
    column = "pair_accuracy" if paired else "accuracy"
    return AblationEffect(
        split=selected["split"],
        sign=sign,
        operation=selected["operation"],
        heads=tuple(selected["heads"]),
        n=selected["n"],
        measure="pair accuracy" if paired else "accuracy",
        # Without a base row, accuracy before is what the selected set lost and what it had left.
        base=base[column] if base is not None else selected["accuracy"] + selected["drop"],
        effect=AgainstRandom(changes[0], tuple(changes[1:])),
        nats=None if nats is None else AgainstRandom(nats[0], tuple(nats[1:])),
        error=None if paired else selected.get("drop_error"),
    )


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Each set of heads once: sets that repeat would count as evidence several times."""
    return list({frozenset(row["heads"]): row for row in rows}.values())
