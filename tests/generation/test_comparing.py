"""Methods beside one another: what is chosen on which samples, what is reported on which, what is stored, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from tests.checked_once import checked_once
from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import paired_comparison
from vseam_core.api.generation import Branch, BranchedGeneration, Decoded, GenerationContext, OwnGeneration
from vseam_core.errors import PluginError, UnknownNameError, UnsupportedError, VseamError
from vseam_core.experiments.comparing.comparison import Compared, Comparison
from vseam_core.experiments.comparing.methods import NamedMethod, method_choices
from vseam_core.experiments.comparing.run import THRESHOLD, CompareOptions, compare_methods
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import GenerationMethodRecord
from vseam_core.runs.workspace import Workspace, open_workspace

MODEL, DATASET = "llava-tiny-skewed", "scenes-skewed/color"
OPTIONS = CompareOptions(split="hard", choose=10, test=16, max_new_tokens=3, timed=2)


class Yes(BranchedGeneration):
    """Says yes `push` nats more readily: a threshold and nothing else."""

    name: ClassVar[str] = "yes"

    def __init__(self, push: float = 0.0) -> None:
        self.push = push

    def branches(self, context: GenerationContext) -> Sequence[Branch]:
        answer = context.model.answer_ids(context.prompt, "Yes", "No")
        self.gold = torch.tensor(answer.gold)
        return (Branch(context.prompt),)

    def combine(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        return logits[0].index_add(0, self.gold, torch.full((len(self.gold),), self.push)) if step == 0 else logits[0]

    def options(self) -> Mapping[str, object]:
        return {"push": self.push}

    def settings(self) -> Sequence[Mapping[str, object]]:
        return [{"push": push} for push in (0.0, 30.0, -30.0)]


class Mute(OwnGeneration):
    """Answers no without asking the model, and has no logits."""

    name: ClassVar[str] = "mute"

    def generate(self, context: GenerationContext, max_new_tokens: int) -> Decoded:
        return Decoded("No")


class Refusing(BranchedGeneration):
    name: ClassVar[str] = "refusing"

    def branches(self, context: GenerationContext) -> Sequence[Branch]:
        raise UnsupportedError("this family has no such thing")


class Methods:
    @hookimpl
    def vseam_generation_methods(self) -> Iterator[GenerationMethodRecord]:
        for kind in (Yes, Mute, Refusing):
            yield GenerationMethodRecord(name=f"acme/{kind.name}", summary="for tests", factory=kind)
        yield GenerationMethodRecord(name="acme/extra", summary="needs more", factory=Yes, extra="parquet-of-nobody")


PLUGINS = build_plugins(local={"acme": Methods()})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with checked_once(), open_workspace(tmp_path_factory.mktemp("compare") / "results.db", plugins=PLUGINS, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def comparison(workspace: Workspace) -> Comparison:
    named = [NamedMethod(name) for name in ("acme:yes", "acme:mute", "acme:refusing", "ablate:L0H0+L4H1")]
    named.append(NamedMethod("vcd", {"alpha": 1.0, "noise_step": 900}))
    return compare_methods(workspace, MODEL, DATASET, method_choices(PLUGINS, named), OPTIONS)


def row(comparison: Comparison, name: str) -> Compared:
    return next(each for each in comparison.rows if each.method == name)


def value(compared: Compared, metric: str) -> Any:
    return compared.figures[metric]["value"]


def test_every_method_has_a_row_after_the_model_as_it_is_and_the_threshold(comparison: Comparison) -> None:
    names = ["none", THRESHOLD, "acme:yes", "acme:mute", "acme:refusing", "ablate:L0H0+L4H1", "vcd"]
    assert [each.method for each in comparison.rows] == names
    assert (comparison.n_choose, comparison.n_test) == (10, 16)
    assert "no such thing" in row(comparison, "acme:refusing").refused
    assert row(comparison, "vcd").change == "vcd (alpha=1.0, noise_step=900)"
    assert row(comparison, "vcd").tried == 1


def test_the_setting_with_the_best_accuracy_on_the_choose_pool_is_reported(comparison: Comparison, workspace: Workspace) -> None:
    chosen = row(comparison, "acme:yes")
    assert chosen.tried == 3
    runs = workspace.store.runs(method="evaluation")
    accuracies = {}
    for run in frame_records(runs[runs["pool"] == "choose"]):
        answers = workspace.store.answers(run["id"])
        method = run["configuration"]["change"].get("method", {})
        if method.get("name") == "acme/yes":
            accuracies[method["options"]["push"]] = answers["score"].mean()
    assert len(accuracies) == 3
    best = max((0.0, 30.0, -30.0), key=lambda push: accuracies[push])
    assert chosen.change == f"acme/yes (push={best})"
    assert chosen.chosen_accuracy == pytest.approx(accuracies[best])


def test_nothing_that_chose_is_reported(comparison: Comparison, workspace: Workspace) -> None:
    runs = workspace.store.runs(method="evaluation")
    images = {pool: set() for pool in ("choose", "test")}
    for run in frame_records(runs):
        images[run["pool"]] |= set(workspace.store.answers(run["id"])["image_id"])
    assert images["choose"]
    assert images["test"]
    assert not images["choose"] & images["test"]


def test_gains_are_paired_by_image(comparison: Comparison, workspace: Workspace) -> None:
    frames = [workspace.store.answers(row(comparison, name).run) for name in ("none", "acme:mute")]
    plain, changed = (frame.set_index("identifier").sort_index() for frame in frames)
    assert list(plain.index) == list(changed.index)
    expected = paired_comparison(plain["score"].astype(float), changed["score"].astype(float), plain["image_id"].to_numpy(), seed=0)
    gain = row(comparison, "acme:mute").figures["gain"]
    assert gain["value"] == pytest.approx(expected.difference.mean)
    assert gain["p_value"] == pytest.approx(expected.p_value)
    assert gain["low"] == pytest.approx(expected.difference.low)
    assert gain["q_value"] >= gain["p_value"]


def test_a_threshold_in_disguise_gains_nothing_over_the_threshold(comparison: Comparison) -> None:
    pushed = row(comparison, "acme:yes")
    assert value(pushed, "own_threshold_gain") == 0
    assert value(pushed, "own_threshold_accuracy") == value(row(comparison, "none"), "own_threshold_accuracy")
    control = row(comparison, THRESHOLD)
    assert value(control, "accuracy") == value(row(comparison, "none"), "own_threshold_accuracy")
    assert value(control, "gain") == pytest.approx(value(control, "accuracy") - value(row(comparison, "none"), "accuracy"))


def test_a_method_without_logits_has_no_threshold_of_its_own_and_says_why(comparison: Comparison) -> None:
    mute = row(comparison, "acme:mute")
    assert value(mute, "yes_ratio") == 0
    assert value(mute, "own_threshold_accuracy") is None
    assert "says nothing of its first token" in mute.figures["own_threshold_accuracy"]["reason"]
    assert value(mute, "gain_over_threshold") == pytest.approx(value(mute, "accuracy") - value(row(comparison, THRESHOLD), "accuracy"))


def test_what_an_answer_costs_is_counted(comparison: Comparison) -> None:
    passes = {
        each.method: each.figures["forward_passes_per_answer"]["value"] for each in comparison.rows if each.run and each.method != THRESHOLD
    }
    assert passes["acme:mute"] == 0
    assert passes["none"] == 2  # the word, and the end of the text
    assert passes["vcd"] == 2 * passes["none"]
    assert all(value(row(comparison, name), "seconds_per_answer") > 0 for name in ("none", "vcd"))


def test_what_only_a_comparison_says_is_stored_beside_the_gains(comparison: Comparison, workspace: Workspace) -> None:
    vcd, none = row(comparison, "vcd"), row(comparison, "none")
    stored = workspace.store.scores("evaluations", vcd.run, compared_with=none.run)
    found = dict(zip(stored["metric"], stored["value"], strict=True))
    for metric in ("gain", "gain_over_threshold", "own_threshold_accuracy", "own_threshold_gain", "forward_passes_per_answer"):
        assert found[metric] == pytest.approx(value(vcd, metric))
    assert np.isclose(
        float(workspace.store.scores("evaluations", vcd.run, compared_with=0, metric="accuracy")["value"].iloc[0]), value(vcd, "accuracy")
    )


def test_what_is_answered_is_not_asked_again(comparison: Comparison, workspace: Workspace) -> None:
    again = compare_methods(workspace, MODEL, DATASET, method_choices(PLUGINS, [NamedMethod("acme:yes")]), OPTIONS)
    assert [each.made for each in again.rows if each.run] == [0, 0, 0]
    assert row(again, "acme:yes").reused == 16
    assert row(again, "acme:yes").change == row(comparison, "acme:yes").change


def test_names_and_options_are_checked_before_anything_is_asked() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vcd'"):
        method_choices(PLUGINS, [NamedMethod("vcdd")])
    with pytest.raises(PluginError, match="no option 'alhpa'"):
        method_choices(PLUGINS, [NamedMethod("vcd", {"alhpa": 1})])
    with pytest.raises(VseamError, match="named twice"):
        method_choices(PLUGINS, [NamedMethod("vcd"), NamedMethod("vcd")])
    with pytest.raises(VseamError, match="beside 'none'"):
        method_choices(PLUGINS, [NamedMethod("none")])
    with pytest.raises(VseamError, match="takes no option"):
        method_choices(PLUGINS, [NamedMethod("none", {"alpha": 1}), NamedMethod("vcd")])
    for name, words in (("rescale", "name of a stored rescaling"), ("ablate:", "needs heads"), ("rescale:x", "")):
        named = NamedMethod(name, {} if words else {"alpha": 1})
        with pytest.raises(VseamError, match=words or "no option 'alpha'"):
            method_choices(PLUGINS, [named])
    (_, ablation) = method_choices(PLUGINS, [NamedMethod("ablate:L1H2", {"with": "mean_of_others"})])
    assert ablation.candidates[0].operation == "mean_of_others"
