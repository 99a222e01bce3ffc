"""Sites of the vision tower, in models that have seen an image and been asked for hidden states, against plain hooks on other modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.families import TinyVLM, softmax_in_float64
from tests.engine.grids import READOUTS, prompts
from vseam_core.api.interventions import (
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    LensScore,
    Patch,
    Run,
    Scale,
    Site,
    SiteEdit,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.attribution import estimate
from vseam_core.engine.generation import Question
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import UnsupportedError

# Where each keeps its tower's layers, and the names of attention, its output projection and MLP in them.
TOWERS = {
    "llava": ("model.vision_tower.encoder.layers", "self_attn", "out_proj", "mlp"),
    "qwen2_vl": ("model.visual.blocks", "attn", "proj", "mlp"),
    "qwen2_5_vl": ("model.visual.blocks", "attn", "proj", "mlp"),
    "qwen3_vl": ("model.visual.blocks", "attn", "proj", "mlp"),
    "internvl": ("model.vision_tower.encoder.layer", "attention", "projection_layer", "mlp"),
    "blip2_opt": ("vision_model.encoder.layers", "self_attn", "projection", "mlp"),
    "gemma3": ("model.vision_tower.encoder.layers", "self_attn", "out_proj", "mlp"),
}
Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models() -> dict[str, TinyVLM]:
    """Every model has put the library's recording hooks on its layers before anybody looks."""
    made = {}
    for name in TOWERS:
        model = made[name] = TinyVLM(name, "sdpa", torch.float64)
        base, _ = prompts(model)["short"]
        with torch.no_grad():
            model.module(**model.collate([base]), use_cache=False, output_hidden_states=True)
    return made


def logits(model: TinyVLM, prompt: EncodedPrompt, module: Any = None, change: Change | None = None, on_input: bool = False) -> torch.Tensor:
    """Those of a plain forward pass in which a module's output (or input) is changed as `[rows, width]`, in front of other hooks."""

    def changed(value: torch.Tensor) -> torch.Tensor:
        assert change is not None
        return change(value.reshape(-1, value.shape[-1])).reshape(value.shape)

    def before(_: Any, args: Any) -> Any:
        return (changed(args[0]), *args[1:])

    def after(_: Any, args: Any, output: Any) -> Any:
        return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

    handles = []
    if module is not None:
        handles.append(module.register_forward_pre_hook(before) if on_input else module.register_forward_hook(after, prepend=True))
    try:
        with torch.no_grad():
            return model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    finally:
        for handle in handles:
            handle.remove()


def held(model: TinyVLM, prompt: EncodedPrompt, module: Any, on_input: bool = False) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.clone())
        return value

    logits(model, prompt, module, keep, on_input)
    return kept[0]


def assert_equal(model: TinyVLM, run: Run, expected: torch.Tensor) -> None:
    untouched = logits(model, run.base)
    assert float((expected - untouched).abs().max()) > 1e-3, "the edit does nothing: this comparison shows nothing"
    for engine in (ReplayEngine(model), ReferenceEngine(model)):
        (result,) = engine.run([run])
        found = np.array([readout[0].logit for readout in result.readouts])
        assert np.abs(found - expected[[readout.answer.gold[0] for readout in READOUTS]].numpy()).max() < 1e-8


@pytest.mark.parametrize("name", TOWERS)
def test_every_site_of_the_tower_is_changed_as_plain_hooks_do(name: str, models: dict[str, TinyVLM]) -> None:
    model, (path, attention, projection, mlp) = models[name], TOWERS[name]
    base, donor = prompts(model)["short"]
    layer = model.module.get_submodule(path)[0]
    modules = {
        "attention_output": (layer.get_submodule(attention), False),
        "mlp_output": (layer.get_submodule(mlp), False),
        "head_output": (layer.get_submodule(f"{attention}.{projection}"), True),
    }
    # Qwen2.5-VL holds its patches window by window: only all of them can be named.
    where = None if name == "qwen2_5_vl" else (1, 3)
    for kind, (module, on_input) in modules.items():
        given = held(model, donor, module, on_input)

        def patched(value: torch.Tensor, given: torch.Tensor = given) -> torch.Tensor:
            result, rows = value.clone(), list(range(len(value)) if where is None else where)
            result[rows] = given[rows]
            return result

        edit = SiteEdit(Site(0, kind, None, "vision"), Patch(), where)  # type: ignore[arg-type]
        assert_equal(model, Run(base, READOUTS, (edit,), donor), logits(model, base, module, patched, on_input))
    module, _ = modules["head_output"]

    def without_head(value: torch.Tensor) -> torch.Tensor:
        size = value.shape[-1] // 4
        return torch.cat([value[:, :size], torch.zeros_like(value[:, :size]), value[:, 2 * size :]], 1)

    edit = SiteEdit(Site(0, "head_output", 1, "vision"), Zero())
    assert_equal(model, Run(base, READOUTS, (edit,)), logits(model, base, module, without_head, True))


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "internvl"])
def test_a_change_of_the_layer_that_features_are_taken_from_acts(name: str, models: dict[str, TinyVLM]) -> None:
    """A hook behind the library's own recording hook would be seen by nobody; the same change is made here inside the layer, at its MLP."""
    model, (path, _, _, mlp) = models[name], TOWERS[name]
    base, donor = prompts(model)["short"]
    layers = model.module.get_submodule(path)
    last = ReplayEngine(model).tower.reach(base) - 1
    own, given = held(model, base, layers[last]), held(model, donor, layers[last])
    part = layers[last].get_submodule(mlp)
    factor = 1.0
    for attribute in ("lambda_2",):
        factor = getattr(layers[last], attribute, factor)

    def shifted(value: torch.Tensor) -> torch.Tensor:
        return value + (given - own) / factor

    expected = logits(model, base, part, shifted)
    edit = SiteEdit(Site(last, "residual_after", None, "vision"), Patch())
    assert_equal(model, Run(base, READOUTS, (edit,), donor), expected)


def test_layers_behind_the_features_are_refused_as_without_effect(models: dict[str, TinyVLM]) -> None:
    # This LLaVA takes its features after the last layer but one.
    model = models["llava"]
    base, donor = prompts(model)["short"]
    for engine in (ReplayEngine(model), ReferenceEngine(model)):
        assert engine.tower.reach(base) == engine.tower.stack.shape.layers - 1 == 2
        with pytest.raises(UnsupportedError, match=r"layer 2 of the vision tower has no effect by construction: .* after layer 1"):
            engine.run([Run(base, READOUTS, (SiteEdit(Site(2, "mlp_output", None, "vision"), Zero()),), donor)])


def test_changes_of_tower_and_decoder_stand_in_one_run_beside_others(models: dict[str, TinyVLM]) -> None:
    model = models["llava"]
    base, donor = prompts(model)["short"]
    tower, decoder = SiteEdit(Site(0, "mlp_output", None, "vision"), Zero(), (2, 5)), SiteEdit(Site(1, "mlp_output"), Patch(), (base.last,))
    runs = [Run(base, READOUTS, edits, donor) for edits in ((tower,), (decoder,), (tower, decoder), ())]
    engine = ReplayEngine(model)
    found = [result.answer.logit for result in engine.run(runs)]
    assert len({round(value, 9) for value in found}) == 4
    assert found == pytest.approx([engine.run([run])[0].answer.logit for run in runs], abs=1e-9)
    # Once more after an edit: the tower's answer is kept by nobody while it is changed.
    assert engine.run([runs[0], runs[3]])[1].answer.logit == pytest.approx(found[3], abs=1e-9)


def test_what_cannot_be_done_in_the_tower_is_refused_with_the_reason(models: dict[str, TinyVLM]) -> None:
    model = models["llava"]
    base, donor = prompts(model)["short"]
    engine, edit = ReplayEngine(model), SiteEdit(Site(0, "mlp_output", None, "vision"), Scale(2.0), (99,))
    answer = AnswerIds((20,), (21,), (20,))
    with pytest.raises(UnsupportedError, match="position 99 lies outside the 17 rows of the vision tower"):
        engine.run([Run(base, READOUTS, (edit,))])
    with pytest.raises(UnsupportedError, match="attention inside the vision tower cannot be cut"):
        engine.run([Run(base, READOUTS, (AttentionBlock((0,), (1,), (2,), None, "vision"),))])
    with pytest.raises(UnsupportedError, match="no lens on it"):
        engine.run([Run(base, (LensScore(Site(0, "residual_after", None, "vision"), answer),))])
    with pytest.raises(UnsupportedError, match="head 9 does not exist"):
        engine.run([Run(base, READOUTS, (SiteEdit(Site(0, "head_output", 9, "vision"), Zero()),))])
    with pytest.raises(UnsupportedError, match="no effect by construction"):
        engine.respond([Question(base, answer, (SiteEdit(Site(2, "mlp_output", None, "vision"), Zero()),))])
    with pytest.raises(UnsupportedError, match="attribution does not follow"):
        estimate(engine, [Run(base, (AnswerScore(answer),), (SiteEdit(Site(0, "mlp_output", None, "vision"), Zero()),), donor)])
    windows = ReplayEngine(models["qwen2_5_vl"])
    base, _ = prompts(models["qwen2_5_vl"])["short"]
    with pytest.raises(UnsupportedError, match="window by window"):
        windows.run([Run(base, READOUTS, (SiteEdit(Site(0, "mlp_output", None, "vision"), Zero(), (1,)),))])


@pytest.mark.parametrize("name", ["blip2_opt", "instructblip_llama", "instructblip_t5"])
def test_every_site_of_a_qformer_is_changed_as_plain_hooks_do(name: str) -> None:
    """Its queries, and where it reads the question those words behind them in its self-attention."""
    model = TinyVLM(name, "eager", torch.float64)
    base, donor = prompts(model)["short"]
    layer = model.module.get_submodule("qformer.encoder.layer.1")
    modules = {
        "attention_output": ("attention.output.dense", False), "head_output": ("attention.output.dense", True),
        "mlp_output": ("output_query.dense", False), "cross_attention_output": ("crossattention.output.dense", False),
        "cross_head_output": ("crossattention.output.dense", True),
    }  # fmt: skip
    for kind, (path, on_input) in modules.items():
        module = layer.get_submodule(path)
        given = held(model, donor, module, on_input)
        for operation, head in ((Patch(), None), (Zero(), None), *(((Zero(), 1),) if on_input else ())):

            def change(
                value: torch.Tensor, operation: Any = operation, head: int | None = head, given: torch.Tensor = given
            ) -> torch.Tensor:
                size = value.shape[-1] // 4
                columns = slice(None) if head is None else slice(head * size, (head + 1) * size)
                changed, rows = value.clone(), [1, 3]
                changed[rows, columns] = given[rows, columns] if isinstance(operation, Patch) else 0.0
                return changed

            edit = SiteEdit(Site(1, kind, head, "connector"), operation, (1, 3))  # type: ignore[arg-type]
            with softmax_in_float64(model):
                assert_equal(model, Run(base, READOUTS, (edit,), donor), logits(model, base, module, change, on_input))


def test_a_layer_of_a_qformer_that_does_not_look_at_the_image_says_so() -> None:
    model = TinyVLM("blip2_opt")
    layer = model.module.qformer.encoder.layer[1]
    layer.has_cross_attention = False
    del layer.crossattention
    base, _ = prompts(model)["short"]
    edit = SiteEdit(Site(1, "cross_head_output", 0, "connector"), Zero())
    with pytest.raises(UnsupportedError, match="has no cross-attention beside its own attention"):
        ReplayEngine(model).run([Run(base, READOUTS, (edit,))])
