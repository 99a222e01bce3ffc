"""Types with an encoder beside their decoder, or with layers like BERT's: every site against plain hooks on modules named by hand.

Beside an encoder of the image alone, words stand in the decoder and look at the image by cross-attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.every_type import AnyTinyModel
from tests.engine.families import softmax_in_float64
from vseam_core.api.interventions import AnswerIds, AnswerScore, AttentionBlock, LensScore, Patch, Run, Site, SiteEdit, Zero
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.base import Engine
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnsupportedError

_BERT = {
    "attention_output": "attention.output.dense",
    "head_output": "<attention.output.dense",
    "mlp_output": "output.dense",
    **{kind: f"attention.self.{kind}" for kind in ("query", "key", "value")},
}
_T5 = {
    "attention_output": "layer.0.SelfAttention",
    "head_output": "<layer.0.SelfAttention.o",
    "mlp_output": "layer.1.DenseReluDense",
    **{kind: f"layer.0.SelfAttention.{kind[0]}" for kind in ("query", "key", "value")},
}
_USUAL = {
    "attention_output": "self_attn",
    "mlp_output": "mlp",
    **{kind: f"self_attn.{kind[0]}_proj" for kind in ("query", "key", "value")},
}
_BART = {**_USUAL, "head_output": "<self_attn.out_proj", "mlp_output": "fc2"}
# Where the words' layers are, the stack they make, and where each site is in a layer; "<" is a module's input.
PLACES: dict[str, tuple[str, str, dict[str, str]]] = {
    "t5gemma2": ("model.encoder.text_model.layers", "encoder", {**_USUAL, "head_output": "<self_attn.o_proj"}),
    "florence2": ("model.language_model.encoder.layers", "encoder", _BART),
    "udop": ("encoder.block", "encoder", _T5),
    "git": ("git.encoder.layer", "decoder", _BERT),
    "blip": (
        "text_decoder.bert.encoder.layer", "decoder",
        {**_BERT, "cross_attention_output": "crossattention.output.dense", "cross_head_output": "<crossattention.output.dense"},
    ),
    "pix2struct": (
        "decoder.layer", "decoder",
        {
            "attention_output": "self_attention.attention", "head_output": "<self_attention.attention.output",
            "mlp_output": "mlp.DenseReluDense", "cross_attention_output": "encoder_decoder_attention.attention",
            "cross_head_output": "<encoder_decoder_attention.attention.output",
            **{kind: f"self_attention.attention.{kind}" for kind in ("query", "key", "value")},
        },
    ),
    "pp_formulanet": (
        "model.decoder.layers", "decoder",
        {**_BART, "cross_attention_output": "encoder_attn", "cross_head_output": "<encoder_attn.out_proj"},
    ),
    "vision-encoder-decoder": (
        "decoder.transformer.h", "decoder",
        {
            "attention_output": "attn", "head_output": "<attn.c_proj", "mlp_output": "mlp",
            "cross_attention_output": "crossattention", "cross_head_output": "<crossattention.c_proj",
        },
    ),
}  # fmt: skip
# Where the layers are that look at the image.
IMAGE_LAYERS = {
    "git": "git.image_encoder.vision_model.encoder.layers", "pix2struct": "encoder.encoder.layer", "pp_formulanet": "model.encoder.layers",
    "vision-encoder-decoder": "encoder.layers",
}  # fmt: skip
RESIDUALS = {"residual_before": "<", "residual_after": ""}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
TOKENS = (0, 20, 45, 70, 99, 127)
READOUTS = tuple(AnswerScore(AnswerIds((token,), (3,), (token,))) for token in TOKENS)
QUESTIONS = ("Is the dog red?", "Is the cat big?")
Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def made(name: str, dtype: str) -> tuple[AnyTinyModel, Engine, EncodedPrompt, EncodedPrompt]:
    """A model, the engine that its check chose, and two prompts of one length."""
    model = AnyTinyModel(name, dtype=DTYPES[dtype])
    with softmax_in_float64(model):  # type: ignore[arg-type]
        engine, _ = checked_engine(model)
    base, donor = (model.encode(None, question) for question in QUESTIONS)
    return model, engine, base, donor


def positions_of(prompt: EncodedPrompt) -> dict[str, tuple[int, ...] | None]:
    return {"first": (0,), "middle": (len(prompt) // 2,), "last": (prompt.last,), "some": (prompt.last - 1, 2, 5), "all": None}


def plain(model: AnyTinyModel, prompt: EncodedPrompt, layer: int, kind: str, change: Change | None) -> torch.Tensor:
    """The last logits of a forward pass in which one activation `[positions, width]` is changed."""
    layers, _, names = PLACES[model.info.family]
    path = {**RESIDUALS, **names}[kind]
    module: nn.Module = model.module.get_submodule(".".join(filter(None, (layers, str(layer), path.removeprefix("<")))))

    def changed(value: torch.Tensor) -> torch.Tensor:
        return value if change is None else change(value[0].clone())[None]

    def before(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return ((changed(args[0]), *args[1:]), named) if args else (args, {**named, "hidden_states": changed(named["hidden_states"])})

    def after(_: Any, args: Any, output: Any) -> Any:
        return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

    hooked = path.startswith("<")
    handle = module.register_forward_pre_hook(before, with_kwargs=True) if hooked else module.register_forward_hook(after)
    try:
        with torch.no_grad():
            return model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    finally:
        handle.remove()


def held(model: AnyTinyModel, prompt: EncodedPrompt, layer: int, kind: str) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.clone())
        return value

    plain(model, prompt, layer, kind, keep)
    return kept[-1]


def expected(model: AnyTinyModel, base: EncodedPrompt, donor: EncodedPrompt, edit: SiteEdit) -> torch.Tensor:
    layer, kind, head = edit.site.layer, edit.site.kind, edit.site.head
    given = held(model, donor, layer, kind) if isinstance(edit.operation, Patch) else None

    def change(value: torch.Tensor) -> torch.Tensor:
        rows = list(range(len(value))) if edit.positions is None else list(edit.positions)
        size = value.shape[-1] if head is None else value.shape[-1] // 4
        columns = slice(0, size) if head is None else slice(head * size, (head + 1) * size)
        for row in rows:
            value[row, columns] = 0.0 if given is None else given[row, columns]
        return value

    return plain(model, base, layer, kind, change)[list(TOKENS)]


def edits(name: str, prompt: EncodedPrompt, layers: Sequence[int]) -> list[SiteEdit]:
    """Every site × patch and zero × positions, and one head of what is split into heads."""
    _, stack, names = PLACES[name]
    found = []
    for layer in layers:
        for kind in (*RESIDUALS, *names):
            for head in (None, layer % 2) if kind in ("head_output", "cross_head_output", "query") else (None,):
                for operation in (Patch(), Zero()):
                    for positions in positions_of(prompt).values():
                        site = Site(layer, kind, head, stack)  # type: ignore[arg-type]
                        found.append(SiteEdit(site, operation, positions))
    return found


def assert_equal(name: str, dtype: str, chosen: Sequence[SiteEdit]) -> None:
    """Both engines give the logits of plain hooks; most edits change some."""
    model, engine, base, donor = made(name, dtype)
    with softmax_in_float64(model):  # type: ignore[arg-type]
        wanted = np.stack([expected(model, base, donor, edit).numpy() for edit in chosen])
        untouched = plain(model, base, 0, "residual_after", None)[list(TOKENS)].numpy()
        runs = [Run(base, READOUTS, (edit,), donor) for edit in chosen]
        both = [one.run(runs) for one in (engine, ReferenceEngine(model))]
    effects = np.abs(wanted - untouched).max(1)
    assert (effects > 1e-6).sum() > len(chosen) / 2, "most edits change nothing: this comparison shows little"
    for results in both:
        logits = np.array([[readout[0].logit for readout in result.readouts] for result in results])
        errors = np.abs(logits - wanted).max(1)
        wrong = [(float(error), edit) for error, edit in zip(errors, chosen, strict=True) if not error <= TOLERANCE[dtype]]
        assert not wrong, f"{len(wrong)} of {len(chosen)} differ, e.g. {sorted(wrong, key=lambda one: -one[0])[:3]}"


@pytest.mark.parametrize("name", ["blip", "git", "pix2struct"])
def test_some_edits_of_every_site_equal_plain_hooks(name: str) -> None:
    _, _, base, _ = made(name, "float32")
    every = edits(name, base, (0, 1))
    assert_equal(name, "float32", every[:: 1 + len(every) // 24])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PLACES)
def test_every_site_with_patch_and_zero_at_all_places_equals_plain_hooks(name: str, dtype: str) -> None:
    _, engine, base, _ = made(name, dtype)
    assert_equal(name, dtype, edits(name, base, range(engine.shape.layers)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PLACES)
def test_a_site_patched_with_its_own_value_changes_nothing(name: str, dtype: str) -> None:
    model, engine, base, _ = made(name, dtype)
    nulls = [edit for edit in edits(name, base, range(engine.shape.layers)) if isinstance(edit.operation, Patch)]
    with softmax_in_float64(model):  # type: ignore[arg-type]
        untouched = plain(model, base, 0, "residual_after", None)[list(TOKENS)].numpy()
        results = engine.run([Run(base, READOUTS, (edit,), base) for edit in nulls])
    logits = np.array([[readout[0].logit for readout in result.readouts] for result in results])
    assert not np.abs(logits - untouched).max() > TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["blip", *(pytest.param(name, marks=pytest.mark.slow) for name in PLACES if name != "blip")])
def test_a_knockout_is_the_mask_that_attention_is_given(name: str) -> None:
    model, engine, base, _ = made(name, "float32")
    layers, stack, names = PLACES[name]
    attention = model.module.get_submodule(f"{layers}.0.{names['query'].rpartition('.')[0] if 'query' in names else 'attn'}")
    targets, sources, heads = (len(base) - 1, 9, 10), tuple(range(9)), (0, 2, 3)

    def without(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = inspect.signature(attention.forward).bind(*args, **named).arguments
        arguments = {**{key: value for key, value in given.items() if key != "kwargs"}, **given.get("kwargs", {})}
        key = "mask" if "mask" in inspect.signature(attention.forward).parameters else "attention_mask"
        hidden, mask = arguments["hidden_states"], arguments.get(key)
        seen = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool)
        if mask is None:
            seen = seen if stack == "encoder" else seen.tril()
        else:
            seen = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
        seen = seen.repeat(1, 4, 1, 1)
        for head in heads:
            for target in targets:
                seen[0, head, target, list(sources)] = False
        arguments[key] = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        return (), arguments

    handle = attention.register_forward_pre_hook(without, with_kwargs=True)
    try:
        with torch.no_grad():
            wanted = model.module(**model.collate([base]), use_cache=False).logits[0, -1][list(TOKENS)].double()
    finally:
        handle.remove()
    block = AttentionBlock((0,), targets, sources, heads, stack)  # type: ignore[arg-type]
    for one in (engine, ReferenceEngine(model)):
        plain_run, cut = one.run([Run(base, READOUTS), Run(base, READOUTS, (block,))])
        assert [readout[0].logit for readout in cut.readouts] == pytest.approx(wanted.tolist(), abs=1e-4)
        assert [readout[0].logit for readout in plain_run.readouts] != pytest.approx(wanted.tolist(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_an_encoder_of_the_image_alone_is_changed_as_the_vision_tower(name: str) -> None:
    model, engine, base, donor = made(name, "float64")
    shape = engine.shape_of("vision")
    for layer in range(shape.layers):
        path = f"{IMAGE_LAYERS[name]}.{layer}"
        given = seen_by(model, donor, path, None)[1]
        for operation, rows in ((Patch(), (1, 3)), (Zero(), (2,)), (Zero(), None)):

            def change(value: torch.Tensor, operation: object = operation, rows: tuple[int, ...] | None = rows) -> torch.Tensor:
                for row in range(len(value)) if rows is None else rows:
                    value[row] = given[row] if isinstance(operation, Patch) else 0.0  # noqa: B023 (called within the loop)
                return value

            wanted = seen_by(model, base, path, change)[0]
            edit = SiteEdit(Site(layer, "residual_after", None, "vision"), operation, rows)
            found = engine.run([Run(base, READOUTS, (edit,), donor)])[0]
            assert [readout[0].logit for readout in found.readouts] == pytest.approx(wanted.tolist(), abs=1e-6)
            own = engine.run([Run(base, READOUTS, (SiteEdit(edit.site, Patch(), rows),), base)])[0]
            untouched = seen_by(model, base, path, None)[0]
            assert [readout[0].logit for readout in own.readouts] == pytest.approx(untouched.tolist(), abs=1e-6)
            assert (wanted - untouched).abs().max() > 1e-6


def seen_by(model: AnyTinyModel, prompt: EncodedPrompt, path: str, change: Change | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits when a module's output is changed as `[rows, width]`, and what it was before."""
    kept: list[torch.Tensor] = []

    def after(_: Any, args: Any, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple) else output
        kept.append(value.reshape(-1, value.shape[-1]).clone())
        if change is None:
            return None
        changed = change(kept[-1].clone()).reshape(value.shape)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.module.get_submodule(path).register_forward_hook(after, prepend=True)
    try:
        with torch.no_grad():
            return model.module(**model.collate([prompt]), use_cache=False).logits[0, -1][list(TOKENS)].double(), kept[0]
    finally:
        handle.remove()


def test_attention_that_adds_nothing_leaves_the_norm_of_the_residual_alone() -> None:
    """In layers like BERT's a module adds the residual and norms the sum: zeroed attention is the norm of what came in."""
    model, engine, base, _ = made("blip", "float32")
    attention = model.module.get_submodule("text_decoder.bert.encoder.layer.1.attention")

    def alone(_: Any, args: tuple[Any, ...], output: tuple[Any, ...]) -> tuple[Any, ...]:
        return (attention.output.LayerNorm(args[0]), *output[1:])

    handle = attention.register_forward_hook(alone)
    try:
        with torch.no_grad():
            wanted = model.module(**model.collate([base]), use_cache=False).logits[0, -1][list(TOKENS)].double()
    finally:
        handle.remove()
    found = engine.run([Run(base, READOUTS, (SiteEdit(Site(1, "attention_output"), Zero()),))])[0]
    assert [readout[0].logit for readout in found.readouts] == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["blip", "git"])
def test_a_lens_reads_a_layer_as_the_head_reads_the_last(name: str) -> None:
    model, engine, base, _ = made(name, "float32")
    head = model.module.get_submodule({"blip": "text_decoder.cls", "git": "output"}[name])
    place = len(base) - 3
    with torch.no_grad():
        logits = head(held(model, base, 1, "residual_after")[place]).double()
    lens = LensScore(Site(1, "residual_after"), AnswerIds((20,), (21,), (20,)), (place,))
    found = engine.run([Run(base, (lens,))])[0].readouts[0][0]
    assert found.logit_diff == pytest.approx(float(logits[20] - logits[21]), abs=1e-4)
    parts = LensScore(Site(1, "attention_output"), lens.answer, (place,))
    with pytest.raises(UnsupportedError, match="direct attribution"):
        engine.run([Run(base, (parts,))])


def test_cross_attention_is_refused_where_a_layer_has_none() -> None:
    _, engine, base, _ = made("git", "float32")
    edit = SiteEdit(Site(1, "cross_attention_output"), Zero())
    with pytest.raises(UnsupportedError, match="layer 1 of this model has no cross-attention beside its own attention"):
        engine.run([Run(base, READOUTS, (edit,))])


def test_a_prompt_that_names_other_positions_than_the_layers_hold_is_no_prompt_to_trace_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words alone, where GIT puts 17 positions of the image in front: the model only answers, and says why."""
    model = AnyTinyModel("git")
    encode = model.encode

    def without_image(*given: Any) -> EncodedPrompt:
        whole = encode(*given)
        return EncodedPrompt(whole.inputs, whole.ids[17:], whole.tokens[17:], whole.classes[17:], whole.roles[17:], whole.text, whole.key)

    monkeypatch.setattr(model, "encode", without_image)
    engine, record = checked_engine(model)
    said = {one["name"]: one for one in record["capabilities"]}
    assert said["answers"]["holds"]
    assert "its decoder holds 33 positions for a prompt of 16" in said["traces"]["reason"]
    with pytest.raises(UnsupportedError, match="answers, but nothing in it can be traced"):
        _ = engine.shape
