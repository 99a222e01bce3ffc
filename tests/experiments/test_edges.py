"""Edge screening: estimates against runs of single paths, edges named once each, and a screening of an embedded model end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine.families import TinyVLM
from tests.engine.grids import READOUTS, prompts
from vseam_core.api.contexts import ModelShape
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.engine.attribution import edge_estimates, estimate
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import SampleError
from vseam_core.experiments.edges import EdgeOptions, Edges, run_edge_screening
from vseam_core.experiments.encoding import prepare_pair
from vseam_core.experiments.tracing import trace_context
from vseam_core.results.scoring import ESTIMATE
from vseam_core.runs.workspace import Workspace, open_workspace

MODEL, DATASET = "llava-tiny", "scenes/color"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("edges") / "results.db", device="cpu") as opened:
        yield opened


@pytest.mark.parametrize("steps", [0, 2])
def test_the_estimate_of_every_edge_is_that_of_its_path_alone(steps: int) -> None:
    model = TinyVLM("llava", "sdpa")
    base, donor = prompts(model)["short"]
    engine, edges = ReplayEngine(model), Edges(ReplayEngine(model).shape)
    run, answer = Run(base, (), (), donor), READOUTS[1].answer
    _, found = edge_estimates(
        engine, run, answer, senders=list(edges.senders.values()), receivers=edges.receiving_sites, integrated_steps=steps
    )
    by_sender = dict(zip(edges.senders, found, strict=True))
    some = edges.names[:: len(edges.names) // 40]
    single = estimate(engine, [Run(base, (AnswerScore(answer),), (edges.path(name, None),), donor) for name in some], steps)
    together = []
    for name in some:
        sender, receiver = name.split("->")
        site = edges.receivers[receiver]
        together.append(by_sender[sender][site.layer, site.kind][site.head or 0])
    np.testing.assert_allclose(together, [one.change for one in single], rtol=1e-3, atol=1e-4)
    assert np.abs(together).max() > 0.01


def test_edges_lead_upwards_and_keys_are_counted_as_there_are_keys() -> None:
    edges = Edges(ModelShape(2, 4, 8, key_value_heads=2))
    # Senders: the embeddings, and in each layer four heads and an MLP; receivers: 4 queries, 2 keys, 2 values and an MLP, and the logits.
    assert len(edges.names) == len(set(edges.names)) == (9 + 9 + 1) + 4 * (1 + 9 + 1) + (9 + 1) + 4 * (1 + 1) + 1
    assert "L0H3->L0.mlp" in edges.names
    assert "L1.mlp->logits" in edges.names
    assert not {"L0.mlp->L0.mlp", "L1H0->L1H1.q", "L1H0->L0.mlp"} & set(edges.names)


def test_a_screening_runs_the_strongest_and_random_edges_on_the_images_that_chose_none(workspace: Workspace) -> None:
    options = EdgeOptions(limit=6, top=6, integrated_steps=2)
    found = run_edge_screening(workspace, MODEL, DATASET, options)
    assert found.edges["part"].value_counts().to_dict() == {"top": 6, "random": 3}
    assert found.edges["n"].tolist() == [3] * 9
    assert (found.agreement["top"], found.agreement["random"], found.agreement["heads"]) == (
        6,
        3,
        len(Edges(workspace.model(MODEL).engine.shape).names),
    )
    assert found.agreement["rank_top"] is not None
    store, run = workspace.store, found.outcome.run
    estimates = store.trace_effects(run, measure=ESTIMATE)
    exact = store.trace_effects(run, measure="logit_diff")
    assert (len(estimates), len(exact)) == (6, 3)
    # One edge by hand, on the pairs that were tried.
    name = str(found.edges["edge"][0])
    loaded, editor = workspace.model(MODEL), workspace.editor("scenes")
    tried, effects = {record.pair for record in exact}, []
    for sample in workspace.benchmark(DATASET).samples("score", "plain", 6, 0):
        pair = editor.edit(sample, 0)
        if pair.identifier in tried:
            context = trace_context(loaded, prepare_pair(loaded, pair), 0)
            readouts = (AnswerScore(context.answer),)
            path = Edges(loaded.engine.shape).path(name, None)
            base, changed = loaded.engine.run([Run(context.clean, readouts), Run(context.clean, readouts, (path,), context.corrupt)])
            effects.append(changed.answer.logit_diff - base.answer.logit_diff)
    assert found.edges["mean"][0] == pytest.approx(np.mean(effects), abs=1e-4)
    again = run_edge_screening(workspace, MODEL, DATASET, options)
    assert again.outcome.made == 0
    assert again.edges.equals(found.edges)


def test_one_image_is_too_few_to_choose_on_and_to_try(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="chosen on one half of the images and tried on the other; there are 1"):
        run_edge_screening(workspace, MODEL, DATASET, EdgeOptions(limit=1, integrated_steps=0))
