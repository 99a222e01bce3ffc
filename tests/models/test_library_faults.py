"""Faults of the library that are mended when a model is loaded, in stand-ins for the models that have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.engine.every_type import AnyTinyModel
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnsupportedError
from vseam_plugins.models.library_faults import mend


class Words(nn.Module):
    """A language model whose output holds `image_outputs` where `held` is given."""

    def __init__(self, held: Any = None):
        super().__init__()
        self.held = held

    def forward(self, ids: torch.Tensor) -> Any:
        output = SimpleNamespace(logits=2 * ids)
        if self.held is not None:
            output.image_outputs = self.held
        return output


class AsLlama4(nn.Module):
    """As Llama 4 in transformers 5.24.0."""

    def __init__(self, held: Any = None):
        super().__init__()
        self.language_model = Words(held)

    def forward(self, ids: torch.Tensor) -> Any:
        outputs = self.language_model(ids)
        return SimpleNamespace(logits=outputs.logits, image_outputs=outputs.image_outputs)


def test_a_model_that_reads_a_field_that_its_language_model_does_not_give_runs_once_it_is_mended() -> None:
    ids = torch.tensor([1, 2])
    with pytest.raises(AttributeError, match="image_outputs"):
        AsLlama4()(ids)
    found = mend(AsLlama4())(ids)
    assert found.image_outputs is None
    assert found.logits.tolist() == [2, 4]


def test_what_needs_no_mending_is_left_as_it_is() -> None:
    assert mend(AsLlama4("features"))(torch.tensor([1])).image_outputs == "features"
    words = mend(Words())
    assert not words._forward_hooks


def test_a_model_that_the_library_itself_cannot_run_is_one_line() -> None:
    model = AnyTinyModel("llava")

    def broken(*_: Any, **__: Any) -> Any:
        raise AttributeError("'Output' object has no attribute 'image_outputs'\nand more")

    model.module.forward = broken
    with pytest.raises(UnsupportedError, match="the library's own forward pass of this model fails: AttributeError: 'Output'") as caught:
        checked_engine(model)
    assert "\n" not in str(caught.value)
