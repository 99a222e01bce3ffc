"""Two-step circuits planted in copies of the embedded LLaVA: a head that reads what another wrote; a pair that stands in for each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.heads.planted import HEAD_DIM, HEADS, MODEL, copy_head, outputs_of, part, planted, write_into, yes_minus_no
from vseam_core.api.interfaces import TraceContext
from vseam_core.api.interventions import AnswerScore, PathPatch, Run, Site, SiteEdit, Zero
from vseam_core.api.types import HeadId
from vseam_core.experiments.edges import EdgeOptions, run_edge_screening
from vseam_core.experiments.encoding import prepare, prepare_pair
from vseam_core.experiments.tracing import trace_context
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_plugins.tracers.paths import PathPatching

COLOR = "scenes/color"
WRITES, READS, IDLE = HeadId(2, 0), HeadId(5, 1), HeadId(4, 3)
PUSHES, BACKUP = HeadId(5, 7), HeadId(5, 4)
PAIRS = 3


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("paths") / "results.db", device="cpu") as opened:
        yield opened


def contexts(workspace: Workspace, model: str) -> list[TraceContext]:
    loaded, editor = workspace.model(model), workspace.editor("scenes")
    samples = workspace.benchmark(COLOR).samples("score", "plain", PAIRS, 0)
    return [trace_context(loaded, prepare_pair(loaded, editor.edit(sample, 0)), 0) for sample in samples]


def strength(workspace: Workspace, model: str, sender: str, receiver: str) -> np.ndarray:
    """The mean size of the paths' effects over pairs and both directions, `[layers, columns]`."""
    tracer, engine = PathPatching([sender], [receiver]), workspace.model(model).engine
    found = [tracer.effects(context, engine.run(tracer.plan(context))) for context in contexts(workspace, model)]
    return np.mean([np.abs(effect.values) for effects in found for effect in effects], axis=0)


@pytest.fixture(scope="module")
def circuit(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """`WRITES` puts what it sees of the image along a direction that nothing reads but the value of `READS`, which says it as yes or no."""
    loaded = workspace.model(MODEL)
    layers = loaded.model.module.model.language_model.layers
    asked = contexts(workspace, MODEL)
    own = slice(WRITES.head * HEAD_DIM, (WRITES.head + 1) * HEAD_DIM)
    site = (WRITES.layer, "head_output")
    seen = [
        [loaded.engine.activations(prompt, [site])[site].double().numpy()[:, own] for prompt in (one.clean, one.corrupt)] for one in asked
    ]
    differences = np.concatenate([clean - corrupt for clean, corrupt in seen])
    sees = np.linalg.svd(differences, full_matrices=False)[2][0]
    reading = np.zeros((layers[0].input_layernorm.weight.numel(),) * 2)
    with torch.no_grad():
        for layer in layers[WRITES.layer :]:
            gain, behind = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            attention, mlp = layer.self_attn, layer.mlp
            for matrix in (*(projection.weight * gain for projection in (attention.q_proj, attention.k_proj, attention.v_proj)),
                           *(projection.weight * behind for projection in (mlp.gate_proj, mlp.up_proj))):  # fmt: skip
                reading += (matrix.T @ matrix).double().numpy()
        unembedding = loaded.model.module.lm_head.weight * loaded.model.module.model.language_model.norm.weight
        reading += (unembedding.T @ unembedding).double().numpy()
        gain = layers[READS.layer].input_layernorm.weight.double().numpy()
    unread = np.linalg.eigh(reading)[1][:, 0]
    sample = next(iter(workspace.benchmark(COLOR).samples("test", "plain", 1, 0)))
    says = yes_minus_no(workspace, prepare(loaded, sample))

    def read(weights: dict[str, torch.Tensor]) -> None:
        value = part(weights, "v_proj", READS)
        value[:] = 0
        value[0] = torch.tensor(unread / gain, dtype=torch.float32)

    first = np.zeros(HEAD_DIM)
    first[0] = 1.0
    spread = np.sqrt((differences @ sees).var())
    folder = tmp_path_factory.mktemp("circuit") / "model"
    return planted(folder, write_into(WRITES, np.outer(unread, sees) * 2 / spread), read, write_into(READS, 200 * np.outer(says, first)))


def test_a_head_that_reads_what_another_wrote_is_found_by_the_path_and_nowhere_else(workspace: Workspace, circuit: str) -> None:
    values = strength(workspace, circuit, str(WRITES), "L*H*.v")
    layer, head = np.unravel_index(values.argmax(), values.shape)
    assert (layer + WRITES.layer + 1, head) == (READS.layer, READS.head)
    others = np.delete(values.ravel(), values.argmax())
    assert values.max() > 10 * others.max()
    senders = strength(workspace, circuit, "L*H*", f"{READS}.v")
    layer, head = np.unravel_index(senders.argmax(), senders.shape)
    assert (layer, head) == (WRITES.layer, WRITES.head)


def test_unrelated_heads_and_the_direct_way_carry_nothing_of_it(workspace: Workspace, circuit: str) -> None:
    through = strength(workspace, circuit, str(WRITES), f"{READS}.v")[0, 0]
    for sender, receiver in ((str(IDLE), f"{READS}.v"), (str(WRITES), f"{IDLE}.v"), (str(WRITES), f"{READS}.q"), (str(WRITES), "logits")):
        assert strength(workspace, circuit, sender, receiver)[0, 0] < through / 20, (sender, receiver)


@pytest.mark.slow
def test_a_screening_of_all_paths_finds_the_planted_one_and_random_ones_carry_nothing_of_it(workspace: Workspace, circuit: str) -> None:
    found = run_edge_screening(workspace, circuit, COLOR, EdgeOptions(limit=4, top=60, integrated_steps=2))
    edges = found.edges.set_index("edge")
    planted_one = edges.loc[f"{WRITES}->{READS}.v"]
    assert planted_one["part"] == "top"
    assert np.sign(planted_one["estimate"]) == np.sign(planted_one["mean"])
    drawn = edges[edges["part"] == "random"]["mean"].abs()
    assert len(drawn) >= 3
    assert drawn.max() < abs(planted_one["mean"]) / 20
    values = edges[[name.startswith(f"{WRITES}->") and name.endswith(".v") for name in edges.index]]["mean"].abs()
    assert values.idxmax() == f"{WRITES}->{READS}.v"


@pytest.mark.slow
def test_a_pair_that_stands_in_for_each_other_shows_in_the_joint_path_alone(workspace: Workspace, tmp_path: Path) -> None:
    """Each pushes yes until the final norm leaves room for nothing else: without one of them nothing changes, without both all does."""
    loaded = workspace.model(MODEL)
    sample = next(iter(workspace.benchmark(COLOR).samples("test", "plain", 1, 0)))
    says = yes_minus_no(workspace, prepare(loaded, sample))
    push = 400 * np.outer(says, outputs_of(workspace, COLOR, 4).push_direction(PUSHES))
    model = planted(tmp_path / "pair", write_into(PUSHES, push), copy_head(PUSHES, BACKUP, kept=1.0, copied=1.0))
    engine = workspace.model(model).engine
    last = Site(engine.shape.layers - 1, "residual_after")
    changes = []
    for context in contexts(workspace, model):
        runs = [Run(context.clean, (AnswerScore(context.answer),))]
        for heads in ((PUSHES,), (BACKUP,), (PUSHES, BACKUP), (HeadId(5, (BACKUP.head + 1) % HEADS),)):
            edits = tuple(SiteEdit(Site(head.layer, "head_output", head.head), Zero()) for head in heads)
            runs.append(Run(context.clean, (AnswerScore(context.answer),), (PathPatch(edits, (last,)),)))
        base, *changed = (result.answer.logit_diff for result in engine.run(runs))
        changes.append([abs(one - base) for one in changed])
    first, second, both, unrelated = np.mean(changes, axis=0)
    assert both > 10 * max(first, second)
    assert unrelated < both / 20
