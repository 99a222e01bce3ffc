"""The planner with a language model on this machine, on a tiny random one: what it says is held to the schema all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vseam_core.errors import SampleError, VseamError
from vseam_core.testing.images import sample
from vseam_plugins.planners.language_model import LocalLanguageModelPlanner


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("outlines", reason="needs the extra local-llm")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("language-model")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, **{letter: index for index, letter in enumerate(letters, 1)}}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token=None))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(vocabulary), max_position_embeddings=16384, eos_token_id=0, bos_token_id=None, pad_token_id=0, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_what_a_random_model_generates_fits_the_schema_or_is_a_skip(checkpoint: Path) -> None:
    planner = LocalLanguageModelPlanner(str(checkpoint), repairs=0, cache=None)
    text = planner._complete([{"role": "user", "content": "Is the dog red?"}])
    assert text.lstrip().startswith("{")
    assert '"level"' in text
    assert any(f'"{level}"' in text for level in ("object", "attribute", "relation"))
    outcome: object
    try:
        outcome = planner.plan(sample()).level
    except SampleError as error:
        outcome = str(error)
    assert outcome in ("object", "attribute", "relation") or "gave no valid plan in 1 replies" in str(outcome)


def test_a_checkpoint_that_is_missing_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("outlines", reason="needs the extra local-llm")
    with pytest.raises(VseamError, match="no language model can be loaded from") as caught:
        LocalLanguageModelPlanner(str(tmp_path / "nothing"), cache=None).plan(sample())
    assert "\n" not in str(caught.value)


def test_it_needs_a_source() -> None:
    with pytest.raises(VseamError, match="source=FOLDER-OR-HUB-ID"):
        LocalLanguageModelPlanner()
