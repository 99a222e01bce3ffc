"""Which prompts lend their activations: the same template and length and, in a decoder that generates, as many tokens to start with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.errors import SampleError
from vseam_core.experiments.heads.donors_and_means import ReferenceSet


def prepared(number: int, start: int) -> Any:
    inputs = {"decoder_input_ids": torch.zeros(1, start, dtype=torch.long)}
    prompt = EncodedPrompt(inputs, (1, 2), ("a", "b"), ("image", "last"), ("", ""), "", f"{number}")
    return SimpleNamespace(prompt=prompt, sample=SimpleNamespace(image_id=f"image-{number}", identifier=f"sample-{number}"))


def test_donors_of_a_decoder_that_generates_start_as_it_does() -> None:
    engine: Any = SimpleNamespace(shape=SimpleNamespace(stack="encoder"))
    references = ReferenceSet(engine, tuple(prepared(number, 1 + number % 2) for number in range(8)))
    asked = prepared(9, 2)
    for stack in ("cross", "decoder"):
        donors = references.donors(asked, 4, seed=0, stack=stack)
        assert {donor.inputs["decoder_input_ids"].shape[-1] for donor in donors} == {2}
        with pytest.raises(SampleError, match="4 donors with its template, 5 needed"):
            references.donors(asked, 5, seed=0, stack=stack)
    assert references.donors(asked, 8, seed=0, stack="encoder") == references.donors(asked, 8, seed=0)
