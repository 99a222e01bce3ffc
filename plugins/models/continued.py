"""Where a model's own passes and its `generate` put the words of a prompt: special tokens at its ends, image positions in front.

A prompt is encoded as the library's `generate` reads it, so that scores and generated answers are of the same prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vseam_core.engine.decoder import Decoder, readable_decoder
from vseam_core.engine.module_discovery import source_of
from vseam_core.errors import UnsupportedError
from vseam_plugins.models.padding import PER_POSITION

OF_IMAGE = -1
"""Stands among a prompt's ids for a position of the image that no id of its own marks: the model itself puts it in front of the words
(GIT) or behind them (UDOP), or an input beside the ids says where it is (Kosmos-2)."""
_PLACES = "image_embeds_position_mask"


def marked(ids: Sequence[int], inputs: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """The ids of a prompt, with the mark where an input beside them says that the image stands."""
    if _PLACES not in inputs:
        return tuple(ids)
    return tuple(OF_IMAGE if place == 1 else number for number, place in zip(ids, inputs[_PLACES][0].tolist(), strict=True))


class _Seen(Exception):
    """Ends a forward pass once the first layer was given its input."""


class ContinuedPrompts:
    """What a model makes of the words of a prompt that its answer continues."""

    def __init__(self, module: Any, tokenizer: Any):
        self._module = module
        self._separator = tokenizer.sep_token_id
        written = source_of(type(module).generate) if hasattr(type(module), "generate") else ""
        # BLIP's generation leaves the last token out (its processor writes a separator there) and begins with a token of its own.
        self._cuts_the_last = "input_ids[:, :-1]" in written
        begins = "input_ids[:, 0] = self.config.text_config.bos_token_id" in written
        self._first: int | None = module.config.text_config.bos_token_id if begins else None
        self._found: dict[tuple[object, ...], int] = {}

    def as_generated_from(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A prompt without the separator that BERT's tokenizer ends it with, and with the token that generation begins with."""
        changed = dict(inputs)
        ids = inputs["input_ids"]
        if self._separator is not None and ids.shape[1] > 1 and int(ids[0, -1]) == self._separator:
            changed |= {name: inputs[name][:, :-1] for name in ("input_ids", *PER_POSITION) if name in inputs}
        if self._first is not None:
            changed["input_ids"] = torch.cat([ids.new_tensor([[self._first]]), changed["input_ids"][:, 1:]], 1)
        return changed

    def for_generation(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch for `generate`: one token more where it leaves the last one out."""
        if not self._cuts_the_last:
            return batch
        longer = {name: torch.cat([batch[name], batch[name][:, -1:]], 1) for name in ("input_ids", *PER_POSITION) if name in batch}
        return {**batch, **longer}

    @torch.no_grad()
    def positions_in_front(self, inputs: Mapping[str, torch.Tensor]) -> int:
        """How many positions the layers hold in front of the words, by what another last word changes; 0 where it is not that simple.

        Raises `UnsupportedError` where the model's own pass fails.
        """
        if _PLACES in inputs:
            return 0
        shapes = tuple((name, tuple(value.shape)) for name, value in inputs.items() if name not in ("input_ids", *PER_POSITION))
        if shapes not in self._found:
            self._found[shapes] = self._count(readable_decoder(self._module), inputs)
        return self._found[shapes]

    def _count(self, decoder: Decoder, inputs: Mapping[str, torch.Tensor]) -> int:
        if decoder.unreadable or decoder.generator is not None:
            return 0
        ids = inputs["input_ids"]
        held = self._first_input(decoder, inputs)
        more = len(held) - ids.shape[1]
        if more <= 0 or held.is_meta:
            return max(0, more)  # weights that are not here change nothing: the count alone is known
        other = ids.clone()
        other[0, -1] = (other[0, -1] + 1) % self._module.get_input_embeddings().num_embeddings
        changed = (self._first_input(decoder, {**inputs, "input_ids": other}) != held).any(-1).nonzero().flatten().tolist()
        return more if changed == [len(held) - 1] else 0

    def _first_input(self, decoder: Decoder, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the first layer is given, `[positions, width]`."""
        place, dtype, found = self._module.device, self._module.dtype, []

        def end(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            found.append((args[0] if args else named["hidden_states"])[0])
            raise _Seen

        handle = decoder.layers[0].module.register_forward_pre_hook(end, with_kwargs=True)
        try:
            moved = {name: value.to(place, dtype if value.is_floating_point() else None) for name, value in inputs.items()}
            self._module(**moved, use_cache=False)
        except _Seen:
            pass
        except Exception as error:  # whatever the library raises for inputs that this model cannot take
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:240]
            raise UnsupportedError(f"the model cannot read what its processor writes: {reason}") from error
        finally:
            handle.remove()
        return found[0]
