"""`--stack`: the vision tower and a Q-Former traced, scanned and ablated from the command line, against plain hooks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import load_registry
from vseam_core.store import open_store

from .conftest import Vseam

ON_COLOUR = ("--dataset", "scenes/color", "--limit", "1", "-q")
HEADS = {"llava-tiny": 4, "instructblip-tiny": 4}


@contextmanager
def hooked(module: Any, change: Callable[[torch.Tensor], torch.Tensor], on_input: bool = False) -> Iterator[None]:
    if on_input:
        handle = module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    else:
        handle = module.register_forward_hook(lambda _, __, output: change(output), prepend=True)
    try:
        yield
    finally:
        handle.remove()


def without_head(head: int, heads: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(value: torch.Tensor) -> torch.Tensor:
        size = value.shape[-1] // heads
        changed = value.clone()
        changed[..., head * size : (head + 1) * size] = 0
        return changed

    return change


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    registry = load_registry(build_plugins())
    return {name: registry.load_model(name, device="cpu") for name in HEADS}


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    dataset = load_registry(build_plugins()).load_dataset("scenes/color")
    return {
        sample.identifier: sample for pool in ("score", "test") for split in dataset.splits() for sample in dataset.samples(pool, split, 4)
    }


@pytest.fixture(autouse=True)
def _figures_have_their_own_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vseam_core.report.writer.write_report", lambda *_, **__: [])


def gap(model: Any, sample: Any) -> float:
    """The logit difference of a sample, by one plain forward pass."""
    prompt = model.encode(sample.image.load(), sample.question)
    answer = model.answer_ids(prompt, sample.answer, sample.competitor)
    with torch.no_grad():
        logits = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    return float(torch.logsumexp(logits[list(answer.gold)], 0) - torch.logsumexp(logits[list(answer.competitor)], 0))


def rows(query: str) -> list[Any]:
    with sqlite3.connect("results.db") as connection:
        return connection.execute(query).fetchall()


def test_a_trace_of_the_vision_tower_restores_the_whole_answer_by_its_residual_and_is_named_after_it(vseam: Vseam) -> None:
    option = ("--tracer-option", "sites=[residual_after,mlp_output]")
    found = vseam("trace", "--model", "llava-tiny", *ON_COLOUR, "--stack", "vision", "--tracer", "groups", *option, "--json")
    assert found.code == 0, found.stderr
    result = json.loads(found.stdout)
    assert [table["title"].partition(":")[0] for table in result["tables"]] == ["Strongest cells of vision"]
    where = "direction = 'denoising' AND measure = 'logit_diff' AND subset = 'all' AND stack = 'vision' AND tracer = 'vision:groups'"
    shares = dict(rows(f"SELECT layer, normalised FROM trace_scores WHERE {where} AND site_kind = 'residual_after'"))
    assert sorted(shares) == list(range(-1, len(shares) - 1))
    assert list(shares.values()) == pytest.approx([1.0] * len(shares), abs=1e-3)
    parts = [share for (share,) in rows(f"SELECT normalised FROM trace_scores WHERE {where} AND site_kind = 'mlp_output'")]
    assert len(parts) == len(shares) - 1
    assert max(abs(1 - share) for share in parts) > 0.05
    (caption,) = {json.loads(text)["caption"] for (text,) in rows("SELECT presentation FROM runs")}
    assert "vision tower holds" in caption


@pytest.mark.parametrize(
    ("name", "stack", "projection"),
    [("llava-tiny", "vision", ".self_attn.out_proj"), ("instructblip-tiny", "connector", ".attention.output.dense")],
)
def test_a_head_scan_of_a_stack_before_the_language_model_is_what_plain_hooks_give(
    name: str, stack: str, projection: str, vseam: Vseam, models: dict[str, Any], asked: dict[str, Any]
) -> None:
    found = vseam("heads", "scan", "--model", name, *ON_COLOUR, "--stack", stack, "--operation", "zero", "--json")
    assert found.code == 0, found.stderr
    model = models[name]
    ((run,),) = rows("SELECT id FROM runs WHERE method = 'head_scan'")
    with open_store("results.db") as store:
        found_effects = store.head_effects(run, measure="logit_diff", stack=stack)
    sample, values = asked[found_effects.samples["identifier"].iloc[0]], found_effects.values[0]
    layers, heads = values.shape
    paths = [path for path, _ in model.module.named_modules() if path.endswith(projection) and is_of(stack, path)]
    for layer, head in ((0, 1), (layers - 1, 2)):
        with hooked(model.module.get_submodule(paths[layer]), without_head(head, heads), on_input=True):
            changed = gap(model, sample)
        assert values[layer, head] == pytest.approx(gap(model, sample) - changed, abs=1e-4)
    assert np.abs(values).max() > 1e-3


def is_of(stack: str, path: str) -> bool:
    return "qformer" in path if stack == "connector" else "vision" in path


def test_heads_of_the_tower_are_ablated_while_a_model_answers(vseam: Vseam, models: dict[str, Any], asked: dict[str, Any]) -> None:
    heads = ",".join(f"L0H{head}" for head in range(4))
    command = ("eval", "--model", "llava-tiny", *ON_COLOUR, "--pool", "test", "--log-samples", "answers.jsonl", "--json")
    found = vseam(*command, "--ablate", heads, "--stack", "vision")
    assert found.code == 0, found.stderr
    assert json.loads(found.stdout)["evaluations"][0]["change"] == "zero " + ",".join(f"vision:L0H{head}" for head in range(4))
    model = models["llava-tiny"]
    path = next(path for path, _ in model.module.named_modules() if path.endswith("self_attn.out_proj") and "vision" in path)
    lines = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    for line in lines:
        with hooked(model.module.get_submodule(path), torch.zeros_like, on_input=True):
            assert gap(model, asked[line["identifier"]]) == pytest.approx(line["logit_diff"], abs=1e-4)
    again = vseam(*command, "--ablate", heads.replace("L0", "vision:L0"))
    assert "0 answered" in again.stderr or json.loads(again.stdout)["evaluations"][0]["reused"] == len(lines)


def test_what_a_stack_does_not_have_or_cannot_do_is_said_in_one_line(vseam: Vseam) -> None:
    model = ("--model", "llava-tiny", *ON_COLOUR)
    refused = {
        ("trace", *model, "--stack", "vision", "--tracer", "tokenwise"): "tracer 'tokenwise' does not trace the stack vision",
        ("heads", "scan", *model, "--stack", "connector", "--operation", "zero"): "no Q-Former found",
        ("heads", "scan", *model, "--stack", "vision", "--method", "screen"): "scanned with method: exact",
        ("heads", "scan", *model, "--stack", "vision", "--positions", "last"): "no positions of the prompt",
        ("heads", "scan", *model, "--stack", "vision", "--operation", "dataset_mean"): "use resample, zero or patch",
        ("eval", *model, "--ablate", "vision:L0H0,L1H1"): "heads of one stack are ablated at a time",
        ("eval", *model, "--ablate", "vision:L9H0"): "head vision:L9H0 does not exist",
        ("eval", *model, "--stack", "vision"): "give --ablate too",
    }
    for command, reason in refused.items():
        found = vseam(*command)
        assert found.code == 2, command
        assert reason in found.stderr
        assert "Traceback" not in found.stderr
    Path("study.yaml").write_text(
        "models: [llava-tiny]\ndatasets: [scenes/color]\nstages: [scan, ablate]\nheads:\n  - {operation: zero, stack: vision}\n"
    )
    found = vseam("study", "check", "study.yaml")
    assert found.code == 2
    assert "they must be the language model's" in found.stderr


@pytest.mark.slow
def test_a_study_file_traces_and_scans_the_tower_beside_the_language_model(vseam: Vseam) -> None:
    Path("study.yaml").write_text(
        "models: [llava-tiny]\ndatasets: [scenes/color]\nstages: [trace, scan]\n"
        "tracers: [groups, {name: groups, stack: vision}]\n"
        "heads:\n  - {operation: zero}\n  - {operation: zero, stack: vision}\n"
        "sizes: {pairs: 1, score: 2, hard: 0, scan_sampled: 1, scan_wrong: 0, reference: 8}\n"
    )
    found = vseam("run", "study.yaml", "--db", "results.db", "-q", "--json")
    assert found.code == 0, found.stderr
    titles = " ".join(table["title"] for table in json.loads(found.stdout)["tables"])
    assert "Strongest cells of groups:" in titles
    assert "Strongest cells of vision:groups:" in titles
    assert set(rows("SELECT DISTINCT stack FROM head_effects")) == {("decoder",), ("vision",)}
    assert set(rows("SELECT DISTINCT tracer, stack FROM trace_effects")) == {("groups", "decoder"), ("vision:groups", "vision")}


@pytest.fixture(scope="module")
def with_a_t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.models.builders import build_instructblip_t5

    return str(build_instructblip_t5(tmp_path_factory.mktemp("t5") / "t5", seed=3))


@pytest.mark.parametrize(
    ("stack", "projection"), [("decoder", "language_model.decoder.block.{}.layer.0.SelfAttention.o"),
                              ("cross", "language_model.decoder.block.{}.layer.1.EncDecAttention.o")]
)  # fmt: skip
def test_a_head_scan_of_a_decoder_that_generates_is_what_plain_hooks_give(
    stack: str, projection: str, vseam: Vseam, with_a_t5: str, asked: dict[str, Any]
) -> None:
    command = ("--model", with_a_t5, *ON_COLOUR, "--stack", stack)
    found = vseam("heads", "scan", *command, "--operation", "zero", "--json")
    assert found.code == 0, found.stderr
    model = load_registry(build_plugins()).load_model(with_a_t5, device="cpu")
    ((run,),) = rows("SELECT id FROM runs WHERE method = 'head_scan'")
    with open_store("results.db") as store:
        effects = store.head_effects(run, measure="logit_diff", stack=stack)
    sample, values = asked[effects.samples["identifier"].iloc[0]], effects.values[0]
    for layer, head in ((0, 1), (1, 3)):
        with hooked(model.module.get_submodule(projection.format(layer)), without_head(head, 4), on_input=True):
            changed = gap(model, sample)
        assert values[layer, head] == pytest.approx(gap(model, sample) - changed, abs=1e-4)
    assert np.abs(values).max() > 1e-3
    traced = vseam("trace", *command, "--json")
    assert traced.code == 0, traced.stderr
    assert rows("SELECT DISTINCT tracer, stack FROM trace_effects") == [(f"{stack}:groups", stack)]
    answered = vseam("eval", *command, "--pool", "test", "--ablate", "L0H1,L1H3", "--json")
    assert answered.code == 0, answered.stderr
    assert json.loads(answered.stdout)["evaluations"][0]["change"] in ("zero cross:L0H1,cross:L1H3", "zero L0H1,L1H3")
    refused = vseam("heads", "scan", *command, "--operation", "dataset_mean")
    assert (refused.code, "use resample, zero or patch" in refused.stderr) == (2, True)


def test_where_a_decoder_that_generates_looks_is_what_the_library_gives(vseam: Vseam, with_a_t5: str, asked: dict[str, Any]) -> None:
    command = ("trace", "--model", with_a_t5, *ON_COLOUR, "--stack", "cross", "--tracer", "attention_maps", "--json")
    found = vseam(*command, "--tracer-option", "detail=heads")
    assert found.code == 0, found.stderr
    model = load_registry(build_plugins()).load_model(with_a_t5, device="cpu", attention="eager")
    ((run,),) = rows("SELECT id FROM runs WHERE method = 'trace'")
    with open_store("results.db") as store:
        records = [record for record in store.trace_effects(run, measure="weight") if record.effect.direction == "clean"]
    (name,) = {record.identifier for record in records}
    prompt = model.encode(asked[name].image.load(), asked[name].question)
    with torch.no_grad():
        outputs = model.module(**model.collate([prompt]), use_cache=False, output_attentions=True).language_model_outputs
    truth = np.stack([layer[0][:, -1].numpy() for layer in outputs.cross_attentions])
    for head in range(4):
        (one,) = [record.effect for record in records if record.effect.site_kind == f"attention_from_last_head_{head}"]
        np.testing.assert_allclose(one.values, truth[:, head], atol=1e-5)
        assert one.stack == "cross"
        assert len(one.columns) == len(prompt)
    read = vseam("trace", "--model", with_a_t5, *ON_COLOUR, "--stack", "decoder", "--tracer", "lens", "--json")
    assert read.code == 0, read.stderr
    assert rows("SELECT DISTINCT tracer, stack, site_kind FROM trace_effects WHERE tracer LIKE '%lens'") == [
        ("decoder:lens", "decoder", "residual_after")
    ]
    refused = {("lens", "cross"): "cross-attention has no residual of its own: name the stack decoder",
               ("attention_maps", "decoder"): "looks at its own tokens alone: name the stack cross",
               ("tokenwise", "decoder"): "tracer 'tokenwise' does not trace the stack decoder"}  # fmt: skip
    for (tracer, stack), reason in refused.items():
        found = vseam("trace", "--model", with_a_t5, *ON_COLOUR, "--stack", stack, "--tracer", tracer)
        assert found.code == 2
        assert reason in found.stderr


def test_a_stack_that_needs_no_name_or_is_not_there_is_refused(vseam: Vseam) -> None:
    said = {"decoder": "image and text stand in the decoder, which needs no name: leave stack decoder out",
            "cross": "its language model has no cross-attention: image and words stand in one sequence"}  # fmt: skip
    for stack, reason in said.items():
        for verb in (("trace",), ("heads", "scan", "--operation", "zero")):
            found = vseam(*verb, "--model", "llava-tiny", *ON_COLOUR, "--stack", stack)
            (line,) = found.stderr.strip().splitlines()
            assert found.code == 2
            assert line.startswith("vseam: nothing was left to measure: llava-tiny")
            assert line.endswith(reason)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_a_model_without_a_stack_is_a_remark_of_a_study_that_goes_on(workers: tuple[str, ...], vseam: Vseam, with_a_t5: str) -> None:
    Path("study.yaml").write_text(
        f"models: [llava-tiny, {with_a_t5}]\ndatasets: [scenes/color]\nstages: [trace, scan]\n"
        "tracers: [{name: groups, stack: cross}]\nheads:\n  - {operation: zero}\n  - {operation: zero, stack: cross}\n"
        "sizes: {pairs: 1, score: 2, hard: 0, scan_sampled: 1, scan_wrong: 0, reference: 8}\n"
    )
    found = vseam("run", "study.yaml", "--db", "results.db", "--json", *workers)
    assert found.code == 0, found.stderr
    reason = "its language model has no cross-attention: image and words stand in one sequence"
    assert f"llava-tiny on scenes/color: no scan of the stack cross: {reason}" in found.stdout
    assert f"tracing is not possible: {reason}" in found.stdout
    assert set(rows("SELECT DISTINCT model, stack FROM head_scores")) == {
        ("llava-tiny", "decoder"),
        (with_a_t5, "encoder"),
        (with_a_t5, "cross"),
    }
    assert rows("SELECT DISTINCT model, tracer FROM trace_scores") == [(with_a_t5, "cross:groups")]
