"""Every image-text-to-text type of the installed library: what can be done with a tiny model of it, and that what is said is so.

The default tests take one type of each kind; `make test-all` takes all.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.engine.every_type import NOT_BUILT, SETTINGS, TYPES, AnyTinyModel, configuration
from tests.engine.families import FAMILIES
from vseam_core.api.interventions import AnswerIds, AnswerScore, Run, Site, SiteEdit, Zero
from vseam_core.engine.capabilities import NAMES
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnsupportedError

ANSWER = AnswerIds((20,), (21,), (20,))
# Covered with images, every site and operation, in test_families.py.
WITH_IMAGES = {"blip-2", "instructblip", "mllama", "paligemma", *(name for name in FAMILIES if name in TYPES)}
# One of each kind: what it shows.
KINDS = {
    "llama4": "ReplayEngine",  # counts positions itself
    "kimi_k25": "ReplayEngine",  # latent attention, narrow values
    "gemma4": "ReplayEngine",  # heads of two widths
    "step3p7": "ReplayEngine",  # gates before W_O
    "granite_docling": "ReplayEngine",  # logits scaled behind the unembedding
    "chameleon": "ReplayEngine",  # masked logits
    "ernie4_5_vl_moe": "ReplayEngine",  # mixture of experts
    "qwen3_5": "ReplayEngine",  # gated delta net
    "lfm3_vl": "ReplayEngine",  # short convolutions
    "mistral_large4": "FullPassEngine",  # sparse key selection
    "inkling_mm_model": "FullPassEngine",  # relative positions of its own
    "git": "FullPassEngine",  # layers like BERT's
    "pp_formulanet": "ReplayEngine",  # an encoder of the image alone
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", KINDS)
def test_a_type_of_each_kind_answers_and_does_what_it_says_it_can(name: str) -> None:
    record = assert_does_what_it_says(AnyTinyModel(name))
    assert record["engine"] == KINDS[name], record.get("fallback")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TYPES) - set(NOT_BUILT) - WITH_IMAGES - set(KINDS)))
def test_every_type_answers_and_does_what_it_says_it_can(name: str) -> None:
    assert_does_what_it_says(AnyTinyModel(name))


@pytest.mark.slow
def test_every_type_of_the_library_can_be_configured_tiny() -> None:
    unknown = {}
    for name in sorted(set(TYPES) - set(NOT_BUILT) - WITH_IMAGES):
        try:
            configuration(name)
        except Exception as error:
            unknown[name] = f"{type(error).__name__}: {str(error)[:200]}"
    lines = "\n".join(f'    "{name}": {{\n        "text_config.…": …,  # {reason}\n    }},' for name, reason in unknown.items())
    assert not unknown, f"add to SETTINGS in tests/engine/every_type.py:\n{lines}"


def test_the_table_of_settings_names_types_of_the_library_only() -> None:
    assert set(SETTINGS) | set(NOT_BUILT) <= set(TYPES)


def assert_does_what_it_says(model: AnyTinyModel) -> dict[str, Any]:
    """The model answers as itself; each capability is tried, and is there or refused as it says."""
    engine, record = checked_engine(model)
    prompt = model.encode(None, "Is the dog red?")
    with torch.no_grad():
        logits = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    own = float(torch.log_softmax(logits, -1)[20] - torch.log_softmax(logits, -1)[21])
    assert engine.answers([prompt], [ANSWER])[0].logit_diff == pytest.approx(own, abs=1e-4)
    assert engine.run([Run(prompt, (AnswerScore(ANSWER),))])[0].answer.logit_diff == pytest.approx(own, abs=1e-4)
    json.dumps(record, allow_nan=False)  # it is stored so
    said = {one["name"]: one for one in record["capabilities"]}
    assert tuple(said) == NAMES
    assert all(one["holds"] or one["reason"] for one in said.values() if one["name"] != "regions")
    assert said["replay"]["holds"] == (record["engine"] == "ReplayEngine")
    # An encoder may end with positions that nothing reads (UDOP: patches whose words stand in front).
    stack = engine.decoder.shape.stack
    edit = SiteEdit(Site(0, "residual_after", None, stack), Zero(), None if stack == "encoder" else (prompt.last,))
    run = Run(prompt, (AnswerScore(ANSWER),), (edit,))
    if said["traces"]["holds"]:
        assert engine.run([run])[0].answer.logit_diff != pytest.approx(own, abs=1e-6)
    else:
        with pytest.raises(UnsupportedError):
            engine.run([run])
        with pytest.raises(UnsupportedError, match="answers, but nothing in it can be traced"):
            _ = engine.shape
    if said["heads"]["holds"]:
        layer = next(layer for layer in range(engine.shape.layers) if engine.shape.heads_in(layer))
        sites = [Site(layer, "head_output", head, engine.decoder.shape.stack) for head in range(engine.shape.heads_in(layer))]
        heads = [SiteEdit(site, Zero()) for site in sites]
        assert engine.run([Run(prompt, (AnswerScore(ANSWER),), tuple(heads))])[0].answer.logit_diff != pytest.approx(own, abs=1e-6)
    return record
