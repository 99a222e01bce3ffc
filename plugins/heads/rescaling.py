"""Head rescaling: multiplies the outputs of attention heads by factors, in a run or for good in the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, ClassVar

from vseam_core.api import interventions as operations
from vseam_core.api.interfaces import HeadContext, HeadIntervention, Variant
from vseam_core.api.types import HeadId, parse_head
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError
from vseam_plugins.heads.ablation import head_edits

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vseam_core.api.interfaces import VisionLanguageModel


class Scale(HeadIntervention):
    """Multiplies each head's live output by its own factor: z ← s·z.

    `factors` maps heads (`HeadId`, or text such as "L3H5") to s. Raises `UnknownNameError` for a key that names no head,
    `VseamError` for a factor that is not a finite number.
    """

    name: ClassVar[str] = "scale"

    def __init__(self, factors: Mapping[HeadId, float] | Mapping[str, float] | None = None) -> None:
        self.factors = parse_factors(factors or {})

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """One variant. Raises `UnknownNameError` for a head that has no factor."""
        missing = [str(head) for head in heads if head not in self.factors]
        if missing:
            raise UnknownNameError(f"scale: no factor for head {', '.join(missing)}; give one for every head that is rescaled")
        return [Variant(head_edits(heads, context, lambda head: operations.Scale(self.factors[head])))]

    def folded(self, model: VisionLanguageModel) -> AbstractContextManager[nn.Module]:
        """The model with the factors in the columns of its output projections (`fold_into_weights`)."""
        return fold_into_weights(model, self.factors)

    def options(self) -> Mapping[str, object]:
        """The factors, by head in ascending order."""
        return {"factors": {str(head): self.factors[head] for head in sorted(self.factors)}}


def parse_factors(factors: Mapping[HeadId, float] | Mapping[str, float]) -> dict[HeadId, float]:
    """Factors by head from `HeadId` or text keys ("L3H5", "encoder:L0H1").

    Raises `UnknownNameError` for a key that names no head, `VseamError` for a factor that is not a finite number.
    """
    parsed = {}
    for key, factor in factors.items():
        head = key if isinstance(key, HeadId) else parse_head(key)
        if not math.isfinite(factor):
            raise VseamError(f"scale: the factor of head {head} must be a finite number, got {factor}")
        parsed[head] = float(factor)
    return parsed


@contextmanager
def fold_into_weights(model: VisionLanguageModel, scales: Mapping[HeadId, float] | Mapping[str, float]) -> Iterator[nn.Module]:
    """Holds a model whose output projections carry a head rescaling, so that it can be saved as an ordinary checkpoint.

    Inside the `with` block the columns of W_O `[width, heads × head_dim]` that read head h are multiplied by s_h, which equals
    scaling z_h at all positions; on leaving it every weight is back bit for bit. Yields the Hugging Face module, to be saved
    with `save_pretrained`. Raises `UnknownNameError` for a head that does not exist and `UnsupportedError` for weights that
    cannot be multiplied (quantised or offloaded ones).
    """
    import torch

    from vseam_core.api.stored_weights import require_in_place
    from vseam_core.engine.cross_attention import projection_of_head
    from vseam_core.engine.decoder import find_decoder

    decoder = find_decoder(model.module)
    factors = parse_factors(scales)
    found = {head: projection_of_head(decoder, head) for head in factors}
    projections = {head: _linear(projection, head.layer) for head, (projection, _) in found.items()}
    for head, projection in projections.items():
        require_in_place(projection, f"layer {head.layer}")
    kept = {id(projection): projection.weight.detach().clone() for projection in projections.values()}
    try:
        with torch.no_grad():
            for head, factor in factors.items():
                size = found[head][1]
                columns = slice(head.head * size, (head.head + 1) * size)
                projections[head].weight[:, columns] *= factor
                _read_back(projections[head], columns, kept[id(projections[head])][:, columns] * factor, head.layer)
        yield model.module
    finally:
        with torch.no_grad():
            for projection in projections.values():
                projection.weight.copy_(kept[id(projection)])


def _read_back(projection: nn.Linear, columns: slice, expected: torch.Tensor, layer: int) -> None:
    """Raise `UnsupportedError` where an edit had no effect: some quantised tensors take one without an error and stay as they were."""
    if not bool((projection.weight[:, columns] == expected).all()):
        raise UnsupportedError(f"layer {layer}: the output projection did not take the edit ({type(projection.weight.data).__name__})")


def _linear(projection: nn.Module, layer: int) -> nn.Linear:
    from torch import nn

    if not isinstance(projection, nn.Linear) or not projection.weight.is_floating_point():
        raise UnsupportedError(
            f"layer {layer}: the output projection is {type(projection).__name__}, whose columns cannot be multiplied in place; "
            "load the model unquantised"
        )
    return projection
