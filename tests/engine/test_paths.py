"""Path patching by both engines against two full forward passes with plain hooks, for every kind of sender and receiver."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.families import FAMILIES, HEADS, LAYERS, TinyVLM, softmax_in_float64
from tests.engine.grids import READOUTS, TOKENS, positions_of, prompts
from tests.engine.independent import Place, attach, held
from vseam_core.api.interventions import AttentionBlock, Patch, PathPatch, Run, Scale, Site, SiteEdit, Zero
from vseam_core.engine.attribution import estimate
from vseam_core.engine.base import Engine
from vseam_core.engine.generation import Question
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import UnsupportedError

DTYPES = {"float32": (torch.float32, 1e-4), "float64": (torch.float64, 1e-10)}
SETTINGS = tuple(itertools.product(("eager", "sdpa"), DTYPES))
REFUSED = ("qwen3_5", "mllama")
FEW = ("llava", "instructblip_llama", "gemma3", "aya_vision", "instructblip_t5")
CASES = [
    pytest.param(family, *setting, marks=[] if family in FEW[:2] and setting == SETTINGS[number % 4] else pytest.mark.slow)
    for number, family in enumerate((*FEW, *(family for family in FAMILIES if family not in (*FEW, *REFUSED))))
    for setting in SETTINGS
    if setting[0] in FAMILIES[family].attentions
]
LAST = LAYERS - 1
EMBEDDINGS = (0, "residual_before", None)
LOGITS = (LAST, "residual_after", None)
# Senders, the place of their change, receivers, whether MLPs between are free.
PATHS: tuple[tuple[Any, str, Any, bool], ...] = (
    ([(0, "head_output", 1)], "all", [(2, "query", 3)], False),
    ([(1, "head_output", 0)], "mixed", [(2, "key", 1)], False),
    ([(0, "head_output", 2)], "image", [(3, "value", 0)], False),
    ([(1, "head_output", 1)], "all", [(1, "mlp_output", None)], False),
    ([(2, "head_output", 3)], "mixed", [LOGITS], False),
    ([(0, "mlp_output", None)], "mixed", [(1, "query", None)], False),
    ([(1, "mlp_output", None)], "all", [(3, "mlp_output", None)], False),
    ([(2, "mlp_output", None)], "all", [LOGITS], False),
    ([EMBEDDINGS], "all", [(0, "key", None)], False),
    ([EMBEDDINGS], "image", [(2, "value", 1)], False),
    ([EMBEDDINGS], "all", [LOGITS], False),
    ([(1, "attention_output", None)], "mixed", [(2, "value", None)], False),
    ([(0, "head_output", 1), (1, "head_output", 2)], "all", [(3, kind, 0) for kind in ("query", "key", "value")], False),
    ([(0, "head_output", 0), (1, "mlp_output", None)], "mixed", [(2, "query", 1), (3, "mlp_output", None), LOGITS], False),
    ([(0, "head_output", 1)], "all", [(3, "query", 2)], True),
    ([(0, "head_output", 3)], "mixed", [LOGITS], True),
    ([(0, "mlp_output", None)], "all", [(2, "key", 0), (3, "mlp_output", None)], True),
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def runs_of(model: TinyVLM) -> list[Run]:
    """Every path, on prompts of two lengths in turn."""
    pairs, stack = list(prompts(model).values()), model.family.stack
    runs = []
    for number, (senders, place, receivers, through) in enumerate(PATHS):
        base, donor = pairs[number % 2]
        positions = positions_of(base, place)
        edits = tuple(SiteEdit(Site(layer, kind, head, stack), Patch(), positions) for layer, kind, head in senders)
        path = PathPatch(edits, tuple(Site(layer, kind, head, stack) for layer, kind, head in receivers), through)
        runs.append(Run(base, READOUTS, (path,), donor))
    return runs


@torch.no_grad()
def slow_logits(model: TinyVLM, run: Run) -> np.ndarray:
    with softmax_in_float64(model):
        return _slow_logits(model, run)


def _slow_logits(model: TinyVLM, run: Run) -> np.ndarray:
    """A first pass in which everything but the senders is written back to the base, and a second with what receivers held in it."""
    (path,) = run.interventions
    assert isinstance(path, PathPatch)
    assert run.donor is not None
    heads: list[Place] = [(layer, "head_output") for layer in range(LAYERS)]
    frozen = heads if path.through_mlps else [*heads, *((layer, "mlp_output") for layer in range(LAYERS))]
    base = held(model, run.base, frozen)
    donor = held(model, run.donor, [(edit.site.layer, edit.site.kind) for edit in path.senders])
    wanted = {(site.layer, site.kind) for site in path.receivers}
    found: dict[Place, torch.Tensor] = {}

    def first(place: Place) -> Any:
        def change(live: torch.Tensor) -> torch.Tensor:
            if place in wanted:
                found[place] = live.clone()
            value = base.get(place, live).clone()
            for edit in path.senders:
                if (edit.site.layer, edit.site.kind) == place:
                    for position in range(len(value)) if edit.positions is None else edit.positions:
                        part = slice_of(value, edit.site, HEADS)
                        value[position, part] = donor[place][position, part]
            return value

        return change

    def second(site: Site) -> Any:
        def change(live: torch.Tensor) -> torch.Tensor:
            part = slice_of(live, site, HEADS if site.kind == "query" else key_value_heads(model))
            value = live.clone()
            value[:, part] = found[site.layer, site.kind][:, part]
            return value

        return change

    def logits(hooks: Iterator[tuple[Place, Any]]) -> torch.Tensor:
        with ExitStack() as stack:
            for place, change in hooks:
                stack.callback(attach(model, place, change).remove)
            output: torch.Tensor = model.module(**model.collate([run.base]), use_cache=False).logits[0, -1].double()
            return output

    logits((place, first(place)) for place in {*base, *donor, *wanted})
    return logits(((site.layer, site.kind), second(site)) for site in path.receivers)[list(TOKENS)].numpy()


def slice_of(value: torch.Tensor, site: Site, heads: int) -> slice:
    size = value.shape[-1] // heads
    return slice(None) if site.head is None else slice(site.head * size, (site.head + 1) * size)


def key_value_heads(model: TinyVLM) -> int:
    return HEADS if model.family.image_first else 2


def logits_of(engine: Engine, runs: list[Run]) -> np.ndarray:
    return np.array([[readout[0].logit for readout in result.readouts] for result in engine.run(runs)])


@pytest.mark.parametrize(("family", "attention", "dtype"), CASES)
def test_every_path_equals_two_full_forwards_with_plain_hooks(family: str, attention: str, dtype: str) -> None:
    number_format, tolerance = DTYPES[dtype]
    model = TinyVLM(family, attention, number_format)
    runs = runs_of(model)
    expected = np.stack([slow_logits(model, run) for run in runs])
    with softmax_in_float64(model):
        untouched = logits_of(ReferenceEngine(model), [Run(run.base, READOUTS) for run in runs])
        found = {kind: logits_of(kind(model), runs) for kind in (ReferenceEngine, ReplayEngine)}
    effects = np.abs(expected - untouched).max(1)
    assert (effects > 1e-6).sum() >= len(runs) - 2, "most paths do nothing: this comparison shows little"
    for logits in found.values():
        error = np.abs(logits - expected).max(1)
        assert error.max() <= tolerance
        assert error.max() <= max(tolerance, 1e-10) * max(1.0, float(np.median(effects)))


@pytest.mark.parametrize("family", REFUSED)
def test_layers_without_attention_between_positions_are_refused_with_the_reason(family: str) -> None:
    model = TinyVLM(family, "sdpa")
    base, donor = prompts(model)["short"]
    path = PathPatch((SiteEdit(Site(0, "mlp_output"), Patch()),), (Site(LAST, "mlp_output"),))
    with pytest.raises(UnsupportedError, match="needs attention and an MLP in every layer, and layer"):
        ReferenceEngine(model).run([Run(base, READOUTS, (path,), donor)])


@pytest.fixture(scope="module")
def llava() -> TinyVLM:
    return TinyVLM("llava", "sdpa")


def path(*receivers: Site, layer: int = 1, kind: Any = "head_output", head: int | None = 0) -> PathPatch:
    return PathPatch((SiteEdit(Site(layer, kind, head), Patch()),), receivers)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (path(Site(1, "query", 0)), "a receiver in layer 1 reads before the senders have written"),
        (path(Site(1, "mlp_output"), layer=1, kind="mlp_output", head=None), "reads before the senders have written"),
        (path(Site(2, "residual_after")), "a residual_after is no receiver"),
        (path(Site(2, "query", 0), kind="query"), "a query is no sender"),
        (path(Site(2, "query", HEADS)), f"head {HEADS} does not exist"),
        (path(Site(2, "key", 2)), "head 2 does not exist"),
        (path(), "needs a sender and a receiver"),
        (path(Site(2, "query", 0), layer=9), "layer 9 does not exist"),
    ],
)
def test_a_path_that_there_is_not_is_refused(llava: TinyVLM, wrong: PathPatch, reason: str) -> None:
    base, donor = prompts(llava)["short"]
    with pytest.raises(UnsupportedError, match=reason):
        ReplayEngine(llava).run([Run(base, READOUTS, (wrong,), donor)])


def test_a_path_stands_alone_in_its_run_and_not_in_a_generation(llava: TinyVLM) -> None:
    base, donor = prompts(llava)["short"]
    one, engine = path(Site(2, "query", 0)), ReplayEngine(llava)
    for other in (SiteEdit(Site(0, "mlp_output"), Zero()), AttentionBlock((0,), (3,), (1,)), one):
        with pytest.raises(UnsupportedError, match="the only intervention of its run"):
            engine.run([Run(base, READOUTS, (one, other), donor)])
    with pytest.raises(UnsupportedError, match="cannot be held while a model generates"):
        engine.respond([Question(base, None, (one,), donor)])


def test_paths_and_plain_runs_of_one_call_keep_their_order_and_a_sender_is_opened_once(llava: TinyVLM) -> None:
    base, donor = prompts(llava)["long"]
    plain = Run(base, READOUTS, (SiteEdit(Site(1, "head_output", 0), Patch()),), donor)
    paths = [Run(base, READOUTS, (path(Site(2, "query", head)),), donor) for head in range(HEADS)]
    engine = ReplayEngine(llava)
    opened: list[int] = []
    first_runs = engine.received
    engine.received = lambda openings: (opened.append(len(openings)), first_runs(openings))[1]  # type: ignore[method-assign]
    together = logits_of(engine, [paths[0], plain, *paths[1:]])
    assert opened == [1]
    alone = np.concatenate([logits_of(ReplayEngine(llava), [run]) for run in (paths[0], plain, *paths[1:])])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == len(together)


def test_what_only_other_positions_send_never_reaches_the_logits_directly(llava: TinyVLM) -> None:
    """Nothing but a receiver's keys and values moves between positions."""
    base, donor = prompts(llava)["short"]
    sender = SiteEdit(Site(1, "mlp_output"), Patch(), tuple(range(base.last)))
    run = Run(base, READOUTS, (PathPatch((sender,), (Site(LAST, "residual_after"),)),), donor)
    for engine in (ReferenceEngine(llava), ReplayEngine(llava)):
        np.testing.assert_array_equal(logits_of(engine, [run]), logits_of(engine, [Run(base, READOUTS)]))


def test_other_changes_than_a_patch_send_too(llava: TinyVLM) -> None:
    base, _ = prompts(llava)["short"]
    changes = [PathPatch((SiteEdit(Site(0, "head_output", 1), how),), (Site(2, "query", 0),)) for how in (Zero(), Scale(-1.5))]
    runs = [Run(base, READOUTS, (change,)) for change in changes]
    slow, fast = (logits_of(kind(llava), runs) for kind in (ReferenceEngine, ReplayEngine))
    np.testing.assert_allclose(fast, slow, atol=1e-4)
    assert np.abs(slow[0] - slow[1]).max() > 1e-3


def test_the_estimate_of_a_small_path_is_its_effect(llava: TinyVLM) -> None:
    """To first order: a sender scaled by a little, over every receiver."""
    model = TinyVLM("llava", "sdpa", torch.float64)
    base, _ = prompts(model)["short"]
    sender = SiteEdit(Site(0, "head_output", 1), Scale(1.003))
    sites = (Site(2, "query", 0), Site(1, "key", 1), Site(3, "value", 0), Site(1, "mlp_output"), Site(LAST, "residual_after"))
    runs = [Run(base, READOUTS[:1], (PathPatch((sender,), (site,)),)) for site in sites]
    engine = ReferenceEngine(model)
    before = engine.run([Run(base, READOUTS[:1])])[0].answer.logit_diff
    exact = np.array([result.answer.logit_diff - before for result in engine.run(runs)])
    guess = np.array([one.change for one in estimate(engine, runs)])
    assert np.abs(exact).min() > 1e-5, "the norms compute in float32 whatever the format"
    np.testing.assert_allclose(guess, exact, rtol=0.03)
