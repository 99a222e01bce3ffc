"""The decoder that generates from an encoder (T5, BART): its sites and cross-attention, against plain hooks on modules named by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.every_type import AnyTinyModel
from tests.engine.families import TinyVLM, softmax_in_float64
from vseam_core.api.interventions import (
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    MeanOfOthers,
    Patch,
    PathPatch,
    Replace,
    Run,
    Scale,
    Site,
    SiteEdit,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import parse_head
from vseam_core.engine.attribution import estimate
from vseam_core.engine.base import Engine
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.remembered_check import engine_checked_once
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnknownNameError, UnsupportedError

_T5 = {
    "attention_output": "layer.0.SelfAttention", "head_output": "<layer.0.SelfAttention.o", "mlp_output": "layer.2.DenseReluDense",
    "cross_attention_output": "layer.1.EncDecAttention", "cross_head_output": "<layer.1.EncDecAttention.o",
    **{kind: f"layer.0.SelfAttention.{kind[0]}" for kind in ("query", "key", "value")},
}  # fmt: skip
_BART = {
    "attention_output": "self_attn", "head_output": "<self_attn.out_proj", "mlp_output": "fc2",
    "cross_attention_output": "encoder_attn", "cross_head_output": "<encoder_attn.out_proj",
    **{kind: f"self_attn.{kind[0]}_proj" for kind in ("query", "key", "value")},
}  # fmt: skip
# One attention for its own rows and the encoder's: its keys and values are made of both.
_MERGED = {"attention_output": "self_attn", "head_output": "<self_attn.o_proj", "mlp_output": "mlp", "query": "self_attn.q_proj"}
RESIDUALS = {"residual_before": "<", "residual_after": ""}
# Where the layers of the decoder are, and where each site is in a layer; "<" is a module's input.
PLACES: dict[str, tuple[str, dict[str, str]]] = {
    "instructblip_t5": ("language_model.decoder.block", _T5),
    "blip2_t5": ("language_model.decoder.block", _T5),
    "udop": ("decoder.block", _T5),
    "florence2": ("model.language_model.decoder.layers", _BART),
    "t5gemma2": ("model.decoder.layers", _MERGED),
}
OF_HEADS = ("head_output", "cross_head_output", "query")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
TOKENS = (0, 20, 45, 70, 99)
READOUTS = tuple(AnswerScore(AnswerIds((token,), (3,), (token,))) for token in TOKENS)
STARTS: dict[str, tuple[int, ...]] = {"one token": (0,), "three tokens": (0, 7, 9)}
Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def made(name: str, dtype: str) -> tuple[Any, Engine]:
    """A model and the engine that replays it."""
    if name.endswith("t5"):
        model: Any = TinyVLM(name, "eager", DTYPES[dtype])
        return model, ReplayEngine(model)
    model = AnyTinyModel(name, dtype=DTYPES[dtype])
    with softmax_in_float64(model):
        engine, record = checked_engine(model)
    assert "fallback" not in record
    return model, engine


def prompts(model: Any, start: str = "one token") -> tuple[EncodedPrompt, EncodedPrompt]:
    """Two prompts of one length whose decoder starts with the same tokens."""
    if isinstance(model, TinyVLM):
        base, donor = (model.prompt(image, range(first, first + 5)) for image, first in ((0, 11), (1, 21)))
    else:
        base, donor = (model.encode(None, question) for question in ("Is the dog red?", "Is the cat big?"))
    base, donor = (
        replace(one, inputs={**one.inputs, "decoder_input_ids": torch.tensor([STARTS[start]])}, key=f"{one.key} {start}")
        for one in (base, donor)
    )
    return base, donor


def plain(model: Any, name: str, prompt: EncodedPrompt, changes: Sequence[tuple[int, str, Change]]) -> torch.Tensor:
    """The last logits of a forward pass in which activations `[rows, width]` of the decoder are changed."""
    layers, names = PLACES[name]
    handles = []
    for layer, kind, change in changes:
        path = {**RESIDUALS, **names}[kind]
        module: nn.Module = model.module.get_submodule(".".join(filter(None, (layers, str(layer), path.removeprefix("<")))))

        def before(_: Any, args: tuple[Any, ...], named: dict[str, Any], change: Change = change) -> Any:
            if args:
                return (change(args[0][0].clone())[None], *args[1:]), named
            return args, {**named, "hidden_states": change(named["hidden_states"][0].clone())[None]}

        def after(_: Any, args: Any, output: Any, change: Change = change) -> Any:
            whole = output if isinstance(output, torch.Tensor) else output[0]
            value = change(whole[0].clone())[None]
            return value if isinstance(output, torch.Tensor) else (value, *output[1:])

        early = path.startswith("<")
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True) if early else module.register_forward_hook(after))
    try:
        with torch.no_grad():
            return model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()[list(TOKENS)]
    finally:
        for handle in handles:
            handle.remove()


def held(model: Any, name: str, prompt: EncodedPrompt, layer: int, kind: str) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.clone())
        return value

    plain(model, name, prompt, [(layer, kind, keep)])
    assert len(kept) == 1, "this site is computed more than once in a pass: what stands there is not clear"
    return kept[0]


def by_hand(model: Any, name: str, base: EncodedPrompt, donor: EncodedPrompt, edit: SiteEdit, heads: int) -> tuple[int, str, Change]:
    layer, kind, head = edit.site.layer, str(edit.site.kind), edit.site.head
    given = held(model, name, donor, layer, kind) if isinstance(edit.operation, Patch) else None

    def change(value: torch.Tensor) -> torch.Tensor:
        size = value.shape[-1] if head is None else value.shape[-1] // heads
        columns = slice(0, size) if head is None else slice(head * size, (head + 1) * size)
        for row in range(len(value)) if edit.positions is None else edit.positions:
            if given is not None:
                value[row, columns] = given[row, columns]
            else:
                value[row, columns] *= edit.operation.factor if isinstance(edit.operation, Scale) else 0.0
        return value

    return layer, kind, change


def heads_of(engine: Engine) -> int:
    return engine.shape_of("decoder").heads


def edits(name: str, engine: Engine, rows: int) -> list[SiteEdit]:
    """Every site × patch, zero and scale × some rows, and one head of what is split into heads."""
    found = []
    for layer in range(engine.shape_of("decoder").layers):
        for kind in (*RESIDUALS, *PLACES[name][1]):
            for head in (None, layer % 2) if kind in OF_HEADS else (None,):
                for operation in (Patch(), Zero(), Scale(1.5)):
                    for positions in {None, (0,), (rows - 1,)}:
                        found.append(SiteEdit(Site(layer, kind, head), operation, positions))  # type: ignore[arg-type]
    return found


def logits_of(engine: Engine, runs: Sequence[Run]) -> np.ndarray:
    return np.array([[readout[0].logit for readout in result.readouts] for result in engine.run(runs)])


def assert_equal(name: str, dtype: str, start: str, every: int = 1) -> None:
    """All engines give the logits of plain hooks; most edits change some."""
    model, engine = made(name, dtype)
    base, donor = prompts(model, start)
    chosen = edits(name, engine, len(STARTS[start]))[::every]
    with softmax_in_float64(model):
        untouched = plain(model, name, base, []).numpy()
        changes = [by_hand(model, name, base, donor, edit, heads_of(engine)) for edit in chosen]
        wanted = np.stack([plain(model, name, base, [change]).numpy() for change in changes])
        runs = [Run(base, READOUTS, (edit,), donor) for edit in chosen]
        found = [logits_of(one, runs) for one in (engine, ReferenceEngine(model), FullPassEngine(model))]
    assert isinstance(engine, ReplayEngine)
    assert (np.abs(wanted - untouched).max(1) > 1e-6).sum() > len(chosen) / 2, "most edits change nothing: this comparison shows little"
    for logits in found:
        errors = np.abs(logits - wanted).max(1)
        wrong = [(float(error), edit) for error, edit in zip(errors, chosen, strict=True) if not error <= TOLERANCE[dtype]]
        assert not wrong, f"{len(wrong)} of {len(chosen)} differ, e.g. {sorted(wrong, key=lambda one: -one[0])[:3]}"


@pytest.mark.parametrize("name", PLACES)
def test_some_edits_of_every_site_equal_plain_hooks(name: str) -> None:
    assert_equal(name, "float32", "three tokens", every=7)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PLACES)
def test_every_site_with_every_operation_equals_plain_hooks(name: str, dtype: str, start: str) -> None:
    assert_equal(name, dtype, start)


@pytest.mark.parametrize("name", ["instructblip_t5", "florence2"])
def test_a_run_may_change_the_encoder_and_the_decoder(name: str) -> None:
    """Both changes at once are neither of them alone, and what a whole pass with both gives."""
    model, engine = made(name, "float64")
    base, donor = prompts(model, "three tokens")
    scaled, zeroed = SiteEdit(Site(1, "cross_head_output", 1), Scale(2.0)), SiteEdit(Site(0, "mlp_output"), Zero())
    inner = SiteEdit(Site(1, "residual_after", None, "encoder"), Patch())
    with softmax_in_float64(model):
        changes = [by_hand(model, name, base, donor, edit, heads_of(engine)) for edit in (scaled, zeroed)]
        # An encoder that is patched whole with the donor's residual gives the donor's encoding.
        wanted = plain(model, name, donor, changes).numpy()
        runs = [Run(base, READOUTS, made_of, donor) for made_of in ((inner, scaled, zeroed), (inner,), (scaled, zeroed))]
        found = [logits_of(one, runs) for one in (engine, ReferenceEngine(model))]
    for both, first, second in found:
        assert np.abs(both - wanted).max() <= 1e-9
        assert min(np.abs(both - first).max(), np.abs(both - second).max()) > 1e-3


@pytest.mark.parametrize("name", ["blip2_t5", "udop", "florence2"])
def test_the_stack_cross_names_the_attention_to_the_encoder(name: str) -> None:
    model, engine = made(name, "float32")
    base, donor = prompts(model)
    shape = engine.shape_of("cross")
    assert (shape.stack, shape.layers, shape.heads) == ("cross", engine.shape_of("decoder").layers, heads_of(engine))
    pairs = [("head_output", "cross_head_output", 1), ("attention_output", "cross_attention_output", None)]
    for short, kind, head in pairs:
        for operation in (Patch(), Zero(), *((MeanOfOthers(),) if head is not None else ())):
            named = [SiteEdit(Site(1, short, head, "cross"), operation), SiteEdit(Site(1, kind, head), operation)]  # type: ignore[arg-type]
            cross, own = logits_of(engine, [Run(base, READOUTS, (edit,), donor) for edit in named])
            assert cross == pytest.approx(own, abs=1e-6)
            own_attention = logits_of(engine, [Run(base, READOUTS, (SiteEdit(Site(1, short, head), operation),), donor)])[0]  # type: ignore[arg-type]
            assert np.abs(cross - own_attention).max() > 1e-4


def test_the_stack_cross_names_it_too_where_words_stand_beside_it() -> None:
    model = AnyTinyModel("pix2struct")
    engine, _ = checked_engine(model)
    base, donor = (model.encode(None, question) for question in ("Is the dog red?", "Is the cat big?"))
    named = [Site(0, "head_output", 2, "cross"), Site(0, "cross_head_output", 2)]
    cross, own = logits_of(engine, [Run(base, READOUTS, (SiteEdit(site, Zero(), (4, 9)),), donor) for site in named])
    assert cross == pytest.approx(own, abs=1e-6)
    assert np.abs(cross - logits_of(engine, [Run(base, READOUTS)])[0]).max() > 1e-4
    engine.require(parse_head("cross:L1H2"))


def test_the_stack_cross_names_layers_that_only_look_at_the_image() -> None:
    """Mllama: most layers have no cross-attention, and those that have it have no other."""
    model = TinyVLM("mllama")
    engine = ReplayEngine(model)
    shape = engine.shape_of("cross")
    only = [index for index, layer in enumerate(engine.decoder.layers) if layer.is_cross_attention]
    assert only
    assert [layer for layer in range(shape.layers) if shape.heads_in(layer)] == only
    base = model.prompt(0, range(11, 16))
    named = [Site(only[0], "head_output", 1, "cross"), Site(only[0], "head_output", 1)]
    cross, own = logits_of(engine, [Run(base, READOUTS, (SiteEdit(site, Zero()),)) for site in named])
    assert cross == pytest.approx(own, abs=1e-6)
    with pytest.raises(UnknownNameError, match="has no heads"):
        engine.require(parse_head(f"cross:L{only[0] - 1}H0"))


@pytest.mark.parametrize("name", PLACES)
def test_a_site_patched_with_its_own_value_changes_nothing(name: str) -> None:
    model, engine = made(name, "float64")
    base, _ = prompts(model, "three tokens")
    nulls = [edit for edit in edits(name, engine, 3) if isinstance(edit.operation, Patch)]
    with softmax_in_float64(model):
        untouched = plain(model, name, base, []).numpy()
        logits = logits_of(engine, [Run(base, READOUTS, (edit,), base) for edit in nulls])
    assert not np.abs(logits - untouched).max() > 1e-9


def test_heads_of_each_stack_are_known_by_name() -> None:
    _, engine = made("instructblip_t5", "float32")
    for known in ("encoder:L3H1", "L2H3", "cross:L2H3"):
        engine.require(parse_head(known))
    for unknown, said in (("L3H0", "the decoder has layers 0 to 2"), ("cross:L0H4", "the cross has layers 0 to 2 with heads 0 to 3")):
        with pytest.raises(UnknownNameError, match=said):
            engine.require(parse_head(unknown))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("blip2_t5", SiteEdit(Site(0, "mlp_output"), Zero(), (1,)), "position 1 lies outside the 1 rows of the decoder that generates"),
        ("blip2_t5", SiteEdit(Site(3, "mlp_output"), Zero()), "layer 3 does not exist"),
        ("blip2_t5", SiteEdit(Site(0, "head_output", 4), Zero()), "head 4 does not exist"),
        ("blip2_t5", SiteEdit(Site(0, "mlp_output", None, "cross"), Zero()), "the stack cross has attention_output and head_output only"),
        ("blip2_t5", SiteEdit(Site(7, "head_output", 0, "cross"), Zero()), "layer 7 does not exist: the decoder has layers 0 to 2"),
        ("blip2_t5", SiteEdit(Site(0, "mlp_output"), Replace(np.zeros((1, 32), np.float32))), "need the positions that they are for"),
        ("blip2_t5", AttentionBlock((0,), (0,), (0,)), "attention inside the decoder that generates cannot be cut"),
        ("blip2_t5", PathPatch((SiteEdit(Site(0, "mlp_output"), Zero()),), (Site(1, "query", 0),)), "paths lie in the encoder"),
        ("t5gemma2", SiteEdit(Site(0, "key"), Zero()), "has no key projection of its own"),
        ("t5gemma2", SiteEdit(Site(0, "head_output", 0, "cross"), Zero()), "reads its encoder in its own attention"),
        ("t5gemma2", SiteEdit(Site(0, "cross_head_output", 0), Zero()), "has no cross-attention beside its own attention"),
    ],
)  # fmt: skip
def test_what_the_decoder_does_not_have_is_refused_with_the_reason(name: str, change: Any, said: str) -> None:
    model, engine = made(name, "float32")
    base, donor = prompts(model)
    with pytest.raises(UnsupportedError, match=said):
        engine.run([Run(base, READOUTS, (change,), donor)] * 4)


def test_a_donor_whose_decoder_starts_with_more_tokens_is_refused() -> None:
    model, engine = made("blip2_t5", "float32")
    base, donor = prompts(model)[0], prompts(model, "three tokens")[1]
    with pytest.raises(UnsupportedError, match="the donor has 3 rows in the decoder that generates, the base 1"):
        engine.run([Run(base, READOUTS, (SiteEdit(Site(0, "mlp_output"), Patch()),), donor)] * 4)


def test_a_model_without_cross_attention_says_so() -> None:
    engine = ReplayEngine(TinyVLM("llava"))
    for asked in (lambda: engine.shape_of("cross"), lambda: engine.require(parse_head("cross:L0H0"))):
        with pytest.raises(UnsupportedError, match="its language model has no cross-attention: image and words stand in one sequence"):
            asked()


def test_gradients_do_not_follow_it() -> None:
    model, engine = made("blip2_t5", "float32")
    base, donor = prompts(model)
    for site in (Site(0, "mlp_output"), Site(0, "head_output", 1, "cross")):
        with pytest.raises(UnsupportedError, match="attribution does not follow changes of a decoder that generates"):
            estimate(engine, [Run(base, READOUTS[:1], (SiteEdit(site, Patch()),), donor)])


def test_a_decoder_whose_heads_move_nothing_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers are there and are not what it computes with: the encoder's are traced as ever."""
    model = AnyTinyModel("florence2")
    decoder = model.module.model.language_model.decoder
    original = decoder.layers
    computed = nn.ModuleList(copy.deepcopy(layer) for layer in original)
    monkeypatch.setattr(decoder, "forward", _with_layers(decoder, computed, original))
    for _ in range(2):
        engine, _ = engine_checked_once(model)
        base, donor = prompts(model)
        edit = SiteEdit(Site(0, "mlp_output"), Zero())
        with pytest.raises(UnsupportedError, match="the decoder of this model generates, but nothing in it can be changed"):
            engine.run([Run(base, READOUTS, (edit,), donor)])
        inner = replace(edit, site=replace(edit.site, stack="encoder"))
        untouched, changed = logits_of(engine, [Run(base, READOUTS), Run(base, READOUTS, (inner,))])
        assert np.abs(untouched - changed).max() > 1e-4


def _with_layers(decoder: Any, computed: nn.ModuleList, shown: nn.ModuleList) -> Callable[..., Any]:
    forward = decoder.forward

    def run(*arguments: Any, **named: Any) -> Any:
        decoder.layers = computed
        try:
            return forward(*arguments, **named)
        finally:
            decoder.layers = shown

    return run


def test_the_one_head_that_carries_the_image_to_the_answer_is_found() -> None:
    """Planted: of all heads of cross-attention only L1H2 writes anything, so the answer hears of image and words through it alone."""
    model = TinyVLM("instructblip_t5")
    for layer, block in enumerate(model.module.language_model.decoder.block):
        weight = block.layer[1].EncDecAttention.o.weight
        size = weight.shape[1] // 4
        with torch.no_grad():
            for head in range(4):
                weight[:, head * size : (head + 1) * size] *= float((layer, head) == (1, 2))
    engine, (base, donor) = ReplayEngine(model), prompts(model)
    places = [(layer, head) for layer in range(3) for head in range(4)]
    for operation in (Zero(), Patch()):
        runs = [Run(base, READOUTS, (SiteEdit(Site(layer, "head_output", head, "cross"), operation),), donor) for layer, head in places]
        plain_run, *scanned = logits_of(engine, [Run(base, READOUTS), *runs])
        effects = dict(zip(places, np.abs(np.array(scanned) - plain_run).max(1), strict=True))
        assert effects.pop((1, 2)) > 1e-2
        assert max(effects.values()) < 1e-6
    # All that the donor's image and words say comes through this head.
    (given,) = logits_of(engine, [Run(donor, READOUTS)])
    assert scanned[places.index((1, 2))] == pytest.approx(given, abs=1e-5)
