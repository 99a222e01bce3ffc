"""Interventions while a model generates: every step carries them, as weights would.

The first forward pass reads the prompt, each later one a single new token. An edit at all positions goes on at the generated ones;
where it puts given values in place (a donor's, means), a generated position takes those of the prompt's last position. An edit at
named positions stays at those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vseam_core.api.interventions import AnswerIds, AnswerValues, Intervention, Patch, Replace
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import SiteHooks, SiteKey, heads_at
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow, apply_edits
from vseam_core.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt to answer freely, `interventions` held from its first to the last generated token.

    `answer` are the ids whose score is read from the logits of the first generated token (None: no score is read).
    """

    prompt: EncodedPrompt
    answer: AnswerIds | None = None
    interventions: tuple[Intervention, ...] = ()
    donor: EncodedPrompt | None = None


@dataclass(frozen=True)
class Response:
    """The greedy answer to a question, and what the answer asked about scored at its first token."""

    text: str
    values: AnswerValues | None = None


class GenerationHooks:
    """Carries the edits of a batch (`lengths` are those of its prompts) out in every forward pass of one generation.

    Raises `UnsupportedError` inside the generation for a model that runs the batch in another shape than it was given.
    """

    def __init__(self, decoder: Decoder, edits: Mapping[SiteKey, Sequence[EditOfRow]], lengths: Sequence[int]):
        self._decoder, self._lengths = decoder, lengths
        self._in_prompt = edits
        self._later = {site: [later for edit in some if (later := _later(edit)) is not None] for site, some in edits.items()}
        self._begun: set[SiteKey] = set()
        self._hooks = SiteHooks(decoder, edits, self._visit)

    def __enter__(self) -> GenerationHooks:
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.__exit__(*exception)

    def _visit(self, site: SiteKey, value: torch.Tensor) -> torch.Tensor:
        rows, width = len(self._lengths), value.shape[-1]
        positions = value.numel() // (rows * width)
        first = site not in self._begun
        self._begun.add(site)
        wanted = max(self._lengths) if first else 1
        if positions != wanted or rows * positions * width != value.numel():
            raise UnsupportedError(
                f"this model does not generate one token at a time: {positions} positions at once where {wanted} were expected, "
                "so an intervention cannot be held while it generates"
            )
        edits = self._in_prompt[site] if first else self._later[site]
        layout = Layout.of_batch(self._lengths if first else [1] * rows, positions, value.device)
        flat = value.reshape(-1, width)
        return apply_edits(flat, edits, layout, heads_at(self._decoder, site)).reshape(value.shape)


def _later(edit: EditOfRow) -> EditOfRow | None:
    """What an edit does at a generated position; None where it stays in the prompt."""
    if edit.positions is not None:
        return None
    if isinstance(edit.operation, Patch):
        assert edit.donor is not None
        return replace(edit, donor=edit.donor[-1:])
    if isinstance(edit.operation, Replace):
        return replace(edit, operation=Replace(edit.operation.values[-1:]))
    return edit
