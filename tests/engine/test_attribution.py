"""Attribution against gradients written out here, finite differences of exact runs, and a network where it has to be exact."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.test_engines import ANSWER, HEADS, KINDS, LAYERS, SIZE, attach, hooks_on, layers_of
from tests.models import builders
from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import (
    Add,
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    Intervention,
    LensScore,
    MeanOfOthers,
    Operation,
    Patch,
    Replace,
    Run,
    Scale,
    Site,
    SiteEdit,
    SiteKind,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.attribution import estimate
from vseam_core.engine.base import Engine
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import UnsupportedError

VARIANTS = AnswerIds((20, 22), (21, 23, 24), (20,))
READ = (AnswerScore(VARIANTS),)
Prompts = tuple[EncodedPrompt, EncodedPrompt]


@pytest.fixture(params=[ReferenceEngine, ReplayEngine], ids=["reference", "replay"])
def engine(request: pytest.FixtureRequest, model: VisionLanguageModel) -> Engine:
    made: Engine = request.param(model)
    return made


@pytest.fixture(scope="module")
def prompts(model: VisionLanguageModel) -> Prompts:
    base, donor = (model.encode(builders.picture(seed), "Is the dog red?") for seed in (1, 2))
    return base, donor


@contextmanager
def in_format(model: VisionLanguageModel, dtype: torch.dtype) -> Iterator[VisionLanguageModel]:
    """The model with a copy of its weights in another number format; the model itself is shared between tests."""
    module = model.module
    model.module = copy.deepcopy(module).to(dtype)
    try:
        yield model
    finally:
        model.module = module


@pytest.fixture
def doubled(model: VisionLanguageModel) -> Iterator[VisionLanguageModel]:
    with in_format(model, torch.float64) as changed:
        yield changed


def doubles(prompt: EncodedPrompt) -> EncodedPrompt:
    import dataclasses

    inputs = {name: value.double() if value.is_floating_point() else value for name, value in prompt.inputs.items()}
    return dataclasses.replace(prompt, inputs=inputs, key=f"{prompt.key} in float64")


def by_autograd(model: VisionLanguageModel, prompt: EncodedPrompt, layer: int, kind: SiteKind) -> tuple[np.ndarray, np.ndarray, float]:
    """What a site holds and the gradient of the logit difference there, from a plain forward pass with one leaf put in."""
    kept: list[torch.Tensor] = []

    def leaf(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.detach().clone().requires_grad_())
        return kept[0]

    handle = attach(model, layer, kind, leaf)
    try:
        logits = model.module(**dict(prompt.inputs)).logits[0, -1].double()
    finally:
        handle.remove()
    difference = logits[list(VARIANTS.gold)].logsumexp(0) - logits[list(VARIANTS.competitor)].logsumexp(0)
    (gradient,) = torch.autograd.grad(difference, kept)
    return kept[0].detach().numpy(), gradient.numpy(), float(difference.detach())


def others(value: np.ndarray, head: int) -> np.ndarray:
    split = value.reshape(len(value), HEADS, SIZE)
    return np.tile(split[:, [other for other in range(HEADS) if other != head]].mean(1), HEADS)


GIVEN = np.random.default_rng(4).normal(size=(2, SIZE)).astype(np.float32)
VECTOR = np.linspace(-1, 1, SIZE, dtype=np.float32)
OPERATIONS: dict[str, Operation] = {
    "patch": Patch(),
    "zero": Zero(),
    "scale": Scale(-1.5),
    "mean_of_others": MeanOfOthers(),
    "replace": Replace(GIVEN),
    "add": Add(VECTOR),
}


def edited(name: str, live: np.ndarray, donor: np.ndarray, head: int, positions: list[int]) -> np.ndarray:
    if name == "replace":
        full = live.copy()
        full[positions] = np.tile(GIVEN, HEADS)
        return full
    made = {
        "patch": donor,
        "zero": 0 * live,
        "scale": -1.5 * live,
        "mean_of_others": others(live, head),
        "add": live + np.tile(VECTOR, HEADS),
    }
    return made[name]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_head_edit_is_estimated_as_change_times_gradient(engine: Engine, prompts: Prompts, layer: int, name: str) -> None:
    base, donor = prompts
    positions = [3, len(base) - 1] if layer else [2, 4]
    live, gradient, difference = by_autograd(engine.model, base, layer, "head_output")
    given = by_autograd(engine.model, donor, layer, "head_output")[0]
    runs, expected = [], []
    for head in range(HEADS):
        part = slice(head * SIZE, (head + 1) * SIZE)
        change = edited(name, live, given, head, positions) - live
        expected.append(float((change[positions, part] * gradient[positions, part]).sum()))
        runs.append(Run(base, READ, (SiteEdit(Site(layer, "head_output", head), OPERATIONS[name], tuple(positions)),), donor))
    found = estimate(engine, runs)
    assert [one.change for one in found] == pytest.approx(expected, abs=1e-5, rel=1e-3)
    assert [one.base for one in found] == pytest.approx([difference] * HEADS, abs=1e-4)
    assert max(map(abs, expected)) > 1e-3, "the edits do nothing: this comparison shows nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_of_every_layer_is_estimated_at_once(engine: Engine, prompts: Prompts, kind: SiteKind) -> None:
    base, donor = prompts
    runs, expected = [], []
    for layer in range(LAYERS):
        live, gradient, _ = by_autograd(engine.model, base, layer, kind)
        product = (by_autograd(engine.model, donor, layer, kind)[0] - live) * gradient
        for position in range(len(base)):
            runs.append(Run(base, READ, (SiteEdit(Site(layer, kind), Patch(), (position,)),), donor))
            expected.append(float(product[position].sum()))
    runs.append(Run(base, READ, (SiteEdit(Site(0, kind), Patch()), SiteEdit(Site(1, kind), Zero(), (base.last,))), donor))
    live, gradient, _ = by_autograd(engine.model, base, 1, kind)
    expected.append(sum(expected[: len(base)]) - float((live * gradient)[-1].sum()))
    assert [one.change for one in estimate(engine, runs)] == pytest.approx(expected, abs=2e-4, rel=1e-3)
    assert max(map(abs, expected)) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_scaling_changes_the_exact_run_by_the_estimate(doubled: VisionLanguageModel, prompts: Prompts, kind: SiteKind) -> None:
    base, engine, epsilon = doubles(prompts[0]), ReferenceEngine(doubled), 1e-3  # the family's norms round to float32
    for layer in range(LAYERS):
        heads: tuple[int | None, ...] = (None, 1) if kind == "head_output" else (None,)
        for head in heads:
            site = Site(layer, kind, head)
            up, down = (Run(base, READ, (SiteEdit(site, Scale(1 + sign * epsilon), (3, base.last)),)) for sign in (1, -1))
            above, below = (result.answer.logit_diff for result in engine.run([up, down]))
            found = estimate(engine, [Run(base, READ, (SiteEdit(site, Scale(2.0), (3, base.last)),))])[0]
            assert found.change == pytest.approx((above - below) / (2 * epsilon), rel=2e-3, abs=5e-4)


def test_integrated_steps_average_the_gradient_between_base_and_donor(doubled: VisionLanguageModel, prompts: Prompts) -> None:
    base, donor = map(doubles, prompts)
    engine, steps = ReferenceEngine(doubled), 6
    start = [engine.activations(prompt, [(0, "residual_before")])[(0, "residual_before")] for prompt in (base, donor)]
    gradients = []
    for step in range(steps):
        inputs = start[0] + (step + 0.5) / steps * (start[1] - start[0])
        handle = attach(doubled, 0, "residual_before", lambda value, inputs=inputs: inputs)
        try:
            gradients.append(by_autograd(doubled, base, 1, "head_output")[1])
        finally:
            handle.remove()
    change = by_autograd(doubled, donor, 1, "head_output")[0] - by_autograd(doubled, base, 1, "head_output")[0]
    product = (change * np.mean(gradients, axis=0)).reshape(len(base), HEADS, SIZE)
    runs = [Run(base, READ, (SiteEdit(Site(1, "head_output", head), Patch()),), donor) for head in range(HEADS)]
    found = [one.change for one in estimate(engine, runs, integrated_steps=steps)]
    assert found == pytest.approx(product.sum((0, 2)).tolist(), rel=1e-6)
    assert found != pytest.approx([one.change for one in estimate(engine, runs)], rel=1e-2), "the steps change nothing"


def test_many_integrated_steps_add_up_to_the_whole_difference(doubled: VisionLanguageModel, prompts: Prompts) -> None:
    """Completeness of integrated gradients: over the whole input, the estimate is the exact difference of the two runs."""
    base, donor = map(doubles, prompts)
    engine = ReferenceEngine(doubled)
    run = Run(base, READ, (SiteEdit(Site(0, "residual_before"), Patch()),), donor)
    plain, patched = (result.answer.logit_diff for result in engine.run([Run(base, READ), run]))
    exact = patched - plain
    errors = [abs(estimate(engine, [run], steps)[0].change - exact) for steps in (0, 4, 64)]
    assert errors[2] < 0.02 * abs(exact)
    assert errors[2] < errors[0]


def test_runs_on_several_prompts_and_answers_come_back_in_order(engine: Engine, prompts: Prompts) -> None:
    runs = []
    for layer in range(LAYERS):
        for base, donor in (prompts, prompts[::-1]):
            for answer in (VARIANTS, ANSWER):
                edit = SiteEdit(Site(layer, "mlp_output"), Patch(), (base.last,))
                runs.append(Run(base, (LensScore(Site(0, "mlp_output"), ANSWER), AnswerScore(answer)), (edit,), donor))
    runs.append(Run(prompts[0], READ))
    together = estimate(engine, runs)
    assert together == [pytest.approx(estimate(engine, [run])[0], abs=1e-5) for run in runs]
    assert together[-1].change == 0.0
    assert together[-1].base == pytest.approx(engine.run([runs[-1]])[0].answer.logit_diff, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.15), (torch.float16, 0.02)], ids=["bfloat16", "float16"])
def test_half_formats_give_the_estimate_within_their_rounding(
    model: VisionLanguageModel, prompts: Prompts, dtype: torch.dtype, tolerance: float
) -> None:
    base, donor = prompts
    runs = [Run(base, READ, (SiteEdit(Site(1, "head_output", head), Patch()),), donor) for head in range(HEADS)]
    expected = [one.change for one in estimate(ReferenceEngine(model), runs)]
    with in_format(model, dtype) as changed:
        found = [one.change for one in estimate(ReferenceEngine(changed), runs)]
    assert found == pytest.approx(expected, abs=tolerance * max(map(abs, expected)))


def test_parameters_collect_no_gradients_and_no_hook_stays_behind(engine: Engine, prompts: Prompts) -> None:
    base, donor = prompts
    module: Any = engine.model.module
    trained = layers_of(engine.model)[0].mlp.up_proj.weight.requires_grad_(True)
    asked = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    hooks = hooks_on(engine.model)
    patch = SiteEdit(Site(1, "head_output", 0), Patch())
    # No head is named, so only the model itself shows that the width is wrong.
    bad = SiteEdit(Site(1, "head_output"), Replace(np.ones((2, SIZE + 1), np.float32)), (1, 2))
    estimate(engine, [Run(base, READ, (patch,), donor)], 2)
    with pytest.raises(RuntimeError):
        estimate(engine, [Run(base, READ, (bad,))])
    with torch.inference_mode():
        inside = estimate(engine, [Run(base, READ, (patch,), donor)])
    assert inside[0].change != 0
    assert hooks_on(engine.model) == hooks
    assert {name: parameter.requires_grad for name, parameter in module.named_parameters()} == asked
    assert all(parameter.grad is None for parameter in module.parameters())
    trained.requires_grad_(False)


def test_an_exception_in_the_forward_pass_leaves_the_model_as_it_was(engine: Engine, prompts: Prompts) -> None:
    hooks = hooks_on(engine.model)
    trained = layers_of(engine.model)[0].mlp.up_proj.weight.requires_grad_(True)
    broken = layers_of(engine.model)[1].mlp.register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        with pytest.raises(KeyboardInterrupt):
            estimate(engine, [Run(prompts[0], READ, (SiteEdit(Site(0, "mlp_output"), Zero()),))])
    finally:
        broken.remove()
    assert hooks_on(engine.model) == hooks
    assert trained.requires_grad
    trained.requires_grad_(False)


@pytest.mark.parametrize(
    ("interventions", "readouts", "steps", "said"),
    [
        ((AttentionBlock((0,), (1,), (0,)),), READ, 0, "cannot estimate attention knockout"),
        ((SiteEdit(Site(0, "mlp_output"), Zero()),), READ, 3, "lead from the base to a donor prompt, and Zero has none"),
        ((SiteEdit(Site(0, "mlp_output"), Patch()),), READ, 0, "needs a donor"),
        ((SiteEdit(Site(9, "mlp_output"), Zero()),), READ, 0, "layer 9 does not exist"),
        ((SiteEdit(Site(0, "mlp_output"), MeanOfOthers()),), READ, 0, "mean_of_others"),
        ((SiteEdit(Site(0, "mlp_output", 1), Zero()),), READ, 0, "a head index needs a head_output"),
        ((), (AnswerScore(AnswerIds((20,), (), (20,))),), 0, "an answer with a competitor"),
        ((), (LensScore(Site(0, "mlp_output"), ANSWER),), 0, "an answer with a competitor"),
    ],
)
def test_what_gradients_cannot_answer_is_refused_with_the_reason(
    engine: Engine, prompts: Prompts, interventions: tuple[Intervention, ...], readouts: Any, steps: int, said: str
) -> None:
    with pytest.raises(UnsupportedError, match=said):
        estimate(engine, [Run(prompts[0], readouts, interventions)], steps)
