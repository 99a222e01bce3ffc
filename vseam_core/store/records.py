"""What the store hands back for arrays: one record per traced pair, one stack of matrices for a head scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vseam_core.api.types import TraceEffect

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TraceRecord:
    """One stored trace effect with what is known about its pair.

    `pair` is the pair's identifier, `identifier` that of its clean sample, `kind` is `edit` or `control`. The flags
    come from stored baselines of the same model, by the benchmark's rule, and are None where there is none:
    `clean_correct`, and `corrupt_correct`: the corrupt image gives the corrupt answer (for a control edit: still the
    clean one).
    """

    key: str
    pair: str
    kind: str
    editor: str
    source_term: str
    target_term: str
    identifier: str
    image_id: str
    dataset: str
    pool: str
    split: str
    level: str
    category: str
    form: str
    answer: str
    corrupt_answer: str
    clean_correct: bool | None
    corrupt_correct: bool | None
    effect: TraceEffect

    @property
    def flipped(self) -> bool:
        """Whether the edit is known to have turned a right answer into the other right answer."""
        return self.kind == "edit" and self.clean_correct is True and self.corrupt_correct is True


@dataclass(frozen=True)
class NamedRescaling:
    """A head rescaling that is kept under a name: the factors by head ("L3H5"), and what they were fitted on."""

    model: str
    weights_hash: str
    dataset: str
    scales: dict[str, float]
    fitted_run: int


@dataclass(frozen=True, eq=False)
class HeadEffectSet:
    """The head effects of many samples: `values` float32 `[n, layers, heads]`, `base` float64 `[n]`.

    A head that was not measured on a sample (a screening verifies some heads only) is NaN, so that no statistic takes it for zero.

    `samples` has one row per matrix, in the same order (by sample, then operation, positions, measure and stack,
    whatever the order of saving): the sample's columns, these four, the unit's `key`, and `correct_strict` and
    `correct_published` from a stored baseline of the same model (missing where there is none).
    """

    values: np.ndarray
    base: np.ndarray
    samples: pd.DataFrame

    def __len__(self) -> int:
        return len(self.base)

    @cached_property
    def images(self) -> np.ndarray:
        """The image of each sample as a number, in the order of their names: what samples are clustered by."""
        import pandas as pd

        return pd.factorize(self.samples["image_id"], sort=True)[0]
