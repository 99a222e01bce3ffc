"""What a study is said to cost before it runs, against the passes that are counted while it runs; and how it falls out on workers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.in_process import InProcess
from tests.experiments.test_workers import study
from vseam_core.config.study import Ablation, HeadScan, Method, Sizes, Study, default_study
from vseam_core.engine.replay import ReplayEngine
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.heads.scan import run_scan
from vseam_core.experiments.study import costs as study_costs
from vseam_core.experiments.study.costs import StudyCosts, costed_plan
from vseam_core.experiments.study.options import scan_options
from vseam_core.experiments.study.parts import study_dataset
from vseam_core.experiments.study.plan import costed, mermaid, scheduled, steps_of
from vseam_core.experiments.study.tasks import StudyTasks
from vseam_core.runs.executors.base import Call, Task
from vseam_core.runs.executors.counted import CountedExecutor
from vseam_core.runs.executors.graph import run_tasks
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Opening, Portion, open_workspace

SIZES = Sizes(
    pairs=3, score=24, hard=0, scan_sampled=20, scan_wrong=0, choose=3, test=4, ablation=2, confirm=4, random_sets=3, reference=16
)
STUDY = study(
    tracers=[Method(name="tokenwise"), Method(name="groups")],
    heads=[HeadScan(operation="zero")],
    ablation=Ablation(operations=[Method(name="resample")]),
    sizes=SIZES,
)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what an engine is asked for: `run` with a number of runs, everything else that answers a prompt as `answer`."""
    passes: Counter[str] = Counter()

    def count(name: str, kind: str, size: Any) -> None:
        whole = getattr(ReplayEngine, name)

        def counting(self: Any, *arguments: Any, **named: Any) -> Any:
            passes[kind] += size(arguments[0])
            return whole(self, *arguments, **named)

        monkeypatch.setattr(ReplayEngine, name, counting)

    count("run", "runs", len)
    count("respond", "answers", len)
    count("answers", "answers", len)
    count("sequence_logprob", "answers", lambda prompt: 1)
    return passes


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(STUDY.with_overrides(stages=["evaluate", "trace"]), id="answers and traces"),
        pytest.param(STUDY, id="whole", marks=pytest.mark.slow),
    ],
)
def test_planned_passes_are_those_that_are_counted_while_the_study_runs(of: Study, tmp_path: Path, counted: Counter[str]) -> None:
    with open_workspace(":memory:") as workspace:
        tasks = StudyTasks(workspace, of, 0, 1)
        costs = StudyCosts(workspace, of, tasks, "llava-tiny")
        per_sample = {task.group: costs.passes(task) for task in tasks.every()}
        planned = {step.name: step.passes or 0 for step in costed(steps_of(tasks.every()), per_sample, dict.fromkeys(per_sample, 0.0))}
    found: dict[str, Counter[str]] = {}
    with open_workspace(tmp_path / "results.db") as workspace:
        assert workspace.opening is not None
        study_id = workspace.store.ensure_study("costs", {})
        for_run = StudyTasks(workspace, of, study_id, 1).every()
        steps = {(task.work.__name__, *map(repr, task.arguments[1:4])): task.group for task in for_run}
        current = [""]

        def before(call: Call, done: int) -> bool:
            current[0] = steps.get((call.work.__name__, *map(repr, call.arguments[1:4])), "")
            return False

        class Counting(InProcess):
            def _answer(self, number: int, call: Call) -> Any:
                counted.clear()
                events = super()._answer(number, call)
                found.setdefault(current[0], Counter()).update(counted)
                return events

        run_tasks(Counting(1, before), workspace.opening, for_run, SilentProgress())
    assert found.keys() == planned.keys()
    for name, passes in planned.items():
        runs, answers = found[name]["runs"], found[name]["answers"]
        if " answers " in name:
            assert (name, runs + answers) == (name, passes)
        elif name == "llava-tiny on scenes/color":
            assert runs + answers == passes - never_made(tmp_path / "results.db", of)
        else:  # what was answered before is not asked again
            samples = SIZES.pairs * 2 if "traces" in name else SIZES.scan_sampled
            assert runs == passes - samples
            assert answers <= samples


def test_the_heads_that_a_screening_verifies_are_planned_as_many_as_it_runs(counted: Counter[str]) -> None:
    screened = STUDY.with_overrides(
        heads=[HeadScan(operation="zero", method="screen", screen_top=4)], stages=["scan"], sizes={**SIZES.model_dump(), "scan_sampled": 4}
    )
    with open_workspace(":memory:") as workspace:
        task = next(task for task in StudyTasks(workspace, screened, 0, 1).every() if task.work is study_dataset)
        planned = StudyCosts(workspace, screened, StudyTasks(workspace, screened, 0, 1), "llava-tiny").passes(task)
        answered = run_baseline(workspace, "llava-tiny", "scenes/color", BaselineOptions("score", limit=6))
        baselines = workspace.store.baselines(answered.run)
        counted.clear()
        run_scan(workspace, "llava-tiny", "scenes/color", scan_options(screened, screened.heads[0]), baselines)
    # The best four and, of the others, three at random; the unchanged model in both parts.
    assert counted["runs"] == planned == 4 * (2 + 4 + 3)


def never_made(database: Path, of: Study) -> int:
    """Of what a dataset's own task may do at its most: sets, candidates and controls that came to nothing, by what is stored."""
    if "ablate" not in of.stages:
        return 0
    with open_workspace(database) as workspace:
        store = workspace.store
        ablated, rescaled, confirmed = store.ablations(), store.modulations(), store.runs(method="head_confirmation")
    images, most_sets = 2 * SIZES.ablation, 2 + of.top_k + SIZES.random_sets
    sets = sum(most_sets - len(ablated[ablated["sign"] == sign]) for sign in of.ablation.signs)
    without_heads = sum(ablated[ablated["sign"] == sign].empty for sign in of.ablation.signs)  # and without the unchanged model
    grid, tests = rescaled[rescaled["role"] == "grid"], set(rescaled["role"]) - {"grid", "bias"}
    candidates = 1 + len(of.rescaling.settings())
    return (
        images * (sets + without_heads)
        + 2 * SIZES.choose * (candidates - len(grid))
        + 4 * 2 * SIZES.test * (2 + 5 - len(tests))
        + SIZES.confirm * (2 * 9 - int(confirmed["units_done"].sum()))
    )


def test_costs_name_time_and_memory_and_are_drawn_with_the_steps() -> None:
    with open_workspace(":memory:") as workspace:
        plan = costed_plan(workspace, STUDY, 2)
        module = workspace.model("llava-tiny").model.module
        weights = sum(value.numel() * value.element_size() for value in [*module.parameters(), *module.buffers()])
    (model,) = plan.models
    assert model.weights == weights
    assert 0 < model.recording < model.most_beside
    assert model.pass_seconds > 0
    assert all(step.passes and step.seconds for step in plan.steps)
    assert plan.schedule.work == pytest.approx(sum(step.seconds or 0 for step in plan.steps))
    assert plan.schedule.work / 2 <= plan.schedule.length <= plan.schedule.work + 2 * model.loading_seconds
    traces = next(step for step in plan.steps if step.name == "llava-tiny groups traces of scenes/color")
    assert f"{traces.name}: {traces.tasks} tasks, {traces.passes:,} passes" in mermaid(plan.steps)


@pytest.mark.slow  # counts on both embedded models and all categories
@pytest.mark.parametrize("workers", [4, 8])
def test_the_default_study_keeps_workers_at_work_for_nine_tenths_of_the_time(workers: int, passes_of_default: dict[str, float]) -> None:
    with open_workspace(":memory:") as workspace:
        tasks = StudyTasks(workspace, default_study(), 0, workers).every()
    assert scheduled(tasks, workers, passes_of_default).efficiency >= 0.9


@pytest.fixture(scope="module")
def passes_of_default() -> dict[str, float]:
    """The passes of one sample of each step of the default study, by the first sample of each dataset."""
    study, passes = default_study(), {}
    with pytest.MonkeyPatch.context() as patch, open_workspace(":memory:") as workspace:
        patch.setattr(study_costs, "LOOKED_AT", 1)
        tasks = StudyTasks(workspace, study, 0, 4)
        for model in study.models:
            costs = StudyCosts(workspace, study, tasks, model)
            known: dict[Any, float] = {}
            for task in tasks.every():
                if task.model.partition("@")[0] == model and task.group not in passes:
                    kind = task.work if task.model != model else (task.group,)
                    passes[task.group] = known[kind] if kind in known else known.setdefault(kind, costs.passes(task))
            workspace.release(model)
    return passes


def test_a_worker_on_a_clock_of_its_own_takes_what_its_calls_cost() -> None:
    def seconds(call: Call, held: str) -> float:
        portion = call.portion
        return (portion.stop - portion.start if portion else 5.0) + (100.0 if call.model != held else 0.0)

    portions = [Task("first", print, (), "a", portion=Portion(start, start + 10)) for start in (0, 10, 20)]
    clock = CountedExecutor(2, seconds)
    run_tasks(clock, Opening(":memory:"), [*portions, Task("last", print, (), "a", after=("first",))], SilentProgress())
    assert (clock.now, clock.busy) == (100 + 10 + 10 + 5, 2 * 100 + 3 * 10 + 5)


def test_closing_tasks_of_several_datasets_and_models_are_spread_over_the_workers() -> None:
    studied = study(models=["llava-tiny", "instructblip-tiny"], datasets=["scenes/color", "scenes/material"])
    with open_workspace(":memory:") as workspace:
        tasks = StudyTasks(workspace, studied, 0, 4).every()
    taken: dict[str, int] = {}

    class Clock(CountedExecutor):
        def submit(self, worker: int, call: Call) -> None:
            if call.portion is None:
                taken[call.arguments[0]] = worker
            super().submit(worker, call)

    def seconds(call: Call, held: str) -> float:
        return 10.0 if call.portion is None else 0.1 * (call.portion.stop - call.portion.start)

    run_tasks(Clock(4, seconds), Opening(":memory:"), [replace(t, arguments=(t.group,), prepare=None) for t in tasks], SilentProgress())
    assert len(taken) == 4
    assert len(set(taken.values())) == 4
