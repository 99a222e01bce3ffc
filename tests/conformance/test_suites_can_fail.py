"""Every promise of a suite is broken once here by a plugin that is wrong in one way, and the suite says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conformance.support import assert_broken
from vseam_core.api import interventions as operations
from vseam_core.api.interfaces import EditPlan, EditPlanner, HeadIntervention, MaskProvider, Painter, Variant
from vseam_core.api.interventions import Site, SiteEdit
from vseam_core.api.types import HeadId, Pair, Sample
from vseam_core.errors import UnsupportedError
from vseam_core.testing import (
    BenchmarkConformance,
    EditorConformance,
    EditPlannerConformance,
    HeadInterventionConformance,
    MaskProviderConformance,
    ModelConformance,
    PainterConformance,
    TracerConformance,
)
from vseam_core.testing.tiny import TinyModel
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark
from vseam_plugins.editors.scenes import SceneEditor
from vseam_plugins.tracers.groups import GroupPatching


class Drifting(TinyModel):
    def collate(self, prompts: Sequence[Any]) -> dict[str, torch.Tensor]:
        batch = super().collate(prompts)
        return batch if len(prompts) == 1 else {**batch, "pixel_values": batch["pixel_values"] + 1}


class Padding(TinyModel):
    def collate(self, prompts: Sequence[Any]) -> dict[str, torch.Tensor]:
        shortest = min(len(prompt) for prompt in prompts)
        return {name: torch.cat([p.inputs[name][:, :shortest] for p in prompts]) for name in ("input_ids", "pixel_values")}


class Sampling(TinyModel):
    def generate(self, prompts: Sequence[Any], max_new_tokens: int = 8) -> list[str]:
        return [str(np.random.default_rng().integers(1 << 30)) for _ in prompts]


def changed_prompt(**fields: Any) -> type[TinyModel]:
    class Changed(TinyModel):
        def encode(self, *arguments: Any, **named: Any) -> Any:
            prompt = super().encode(*arguments, **named)
            return replace(prompt, **{name: change(prompt) for name, change in fields.items()})

    return Changed


@pytest.mark.parametrize(
    ("model", "test", "message"),
    [
        (Drifting, "test_a_batch_gives_what_single_prompts_give", "a batch gives what single prompts give"),
        (Padding, "test_prompts_of_different_length_are_padded_rightly_or_refused", "refuses prompts of different length"),
        (Sampling, "test_it_generates_text_in_order", "greedy"),
        (changed_prompt(key=lambda p: "same"), "test_keys_identify_image_and_question", "another image is another key"),
        (changed_prompt(classes=lambda p: p.classes[:-1]), "test_every_position_has_a_class_a_role_and_a_token", "one class"),
        (changed_prompt(classes=lambda p: (*p.classes[:-1], "template")), "test_every_position_has_a_class_a_role_and_a_token", "last"),
        (changed_prompt(roles=lambda p: ("",) * len(p)), "test_words_get_their_roles", "given a role has it"),
        (changed_prompt(image_boxes=lambda p: p.image_boxes[1:]), "test_image_positions_have_a_place_or_are_said_to_have_none", "one box"),
    ],
)
def test_wrong_models_are_caught(model: Callable[[], Any], test: str, message: str) -> None:
    assert_broken(ModelConformance, model, test, message)


def test_a_model_without_refusals_or_answers_is_caught() -> None:
    class Lenient(TinyModel):
        def answer_ids(self, prompt: Any, gold: str, competitor: str | None) -> Any:
            return operations.AnswerIds((20,), (20,), (20,))

        def encode(self, image: Any, question: str, roles: Any = (), answer_prefix: Any = ()) -> Any:
            return super().encode(image, question.strip() or "nothing")

    assert_broken(ModelConformance, Lenient, "test_answers_are_told_apart", "none in common")
    assert_broken(ModelConformance, Lenient, "test_an_empty_question_is_refused", "an empty question is refused")
    assert_broken(ModelConformance, Lenient, "test_an_answer_prefix_stands_before_what_is_read", "adds its tokens")


def test_a_model_that_reads_its_whole_prompt_both_ways_may_refuse_an_answer_prefix_with_the_reason() -> None:
    class BothWays(TinyModel):
        reason = "no place for an answer prefix"

        def encode(self, image: Any, question: str, roles: Any = (), answer_prefix: Any = ()) -> Any:
            if answer_prefix:
                raise UnsupportedError(self.reason)
            return super().encode(image, question, roles)

    class Wordy(BothWays):
        reason = "no place\nat all"

    name = "test_an_answer_prefix_stands_before_what_is_read"
    getattr(type("TestIt", (ModelConformance,), {"make": lambda self: BothWays()})(), name)()
    assert_broken(ModelConformance, Wordy, name, "in one line")


class Scenes(SceneBenchmark):
    """The scenes world with a fault in how its samples or pools are made."""

    def __init__(self, fault: str):
        super().__init__("color")
        self.fault = fault

    def samples(self, pool: Any, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        if self.fault == "one pool":
            pool = "score"
        if self.fault == "limit" and limit is not None:
            seed = limit
        for sample in super().samples(pool, split, limit, seed):
            match self.fault:
                case "same identifier":
                    yield replace(sample, identifier="x")
                case "level":
                    yield replace(sample, level="colour")  # type: ignore[arg-type]
                case "roles":
                    yield replace(sample, roles=(type(sample.roles[0])(0, 999, "object"),))
                case _:
                    yield sample

    def judge(self, sample: Sample, answer: str) -> bool:
        return self.fault != "judge" and super().judge(sample, answer)

    def score(self, sample: Sample, answer: str) -> float:
        return 100.0 if self.fault == "score" else super().score(sample, answer)

    def metrics(self, answered: Any) -> Any:
        return {"f1": float("nan")} if self.fault == "metrics" else {}


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("one pool", "test_pools_share_no_image", "pools share no image"),
        ("limit", "test_the_first_samples_are_the_same_whatever_the_limit", "do not depend on the limit"),
        ("same identifier", "test_identifiers_are_unique", "no identifier is used twice"),
        ("level", "test_samples_are_complete", "the level is among"),
        ("roles", "test_samples_are_complete", "roles lie inside"),
        ("judge", "test_the_gold_answer_is_right_and_scores_lie_between_0_and_1", "judged right"),
        ("score", "test_the_gold_answer_is_right_and_scores_lie_between_0_and_1", "between 0 and 1"),
        ("metrics", "test_the_gold_answer_is_right_and_scores_lie_between_0_and_1", "never NaN"),
    ],
)
def test_wrong_benchmarks_are_caught(fault: str, test: str, message: str) -> None:
    assert_broken(BenchmarkConformance, lambda: Scenes(fault), test, message, most=8)


class Painted:
    def __init__(self, image: Image.Image):
        self.image = image

    def load(self) -> Image.Image:
        return self.image


class Careless(SceneEditor):
    """The scenes editor with a fault."""

    def __init__(self, fault: str):
        self.fault = fault

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        pair = super().edit(sample, seed)
        corrupt = pair.corrupt.image.load()
        match self.fault:
            case "same answer":
                return replace(pair, corrupt=replace(pair.corrupt, answer=pair.clean.answer))
            case "unchanged":
                return replace(pair, corrupt=replace(pair.corrupt, image=pair.clean.image))
            case "outside":
                corrupt.putpixel((0, 0), (1, 2, 3))
                return replace(pair, corrupt=replace(pair.corrupt, image=Painted(corrupt)))
            case "chance":
                noise = Image.fromarray(np.random.default_rng().integers(0, 256, (corrupt.height, corrupt.width, 3), dtype=np.uint8))
                return replace(pair, corrupt=replace(pair.corrupt, image=Painted(noise)))
        return pair

    def control(self, sample: Sample, seed: int = 0) -> Pair | None:
        control = super().control(sample, seed)
        return replace(control, kind="edit") if control and self.fault == "control" else control


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("same answer", "test_the_true_answer_changes", "has another answer"),
        ("unchanged", "test_a_pair_asks_one_question_about_two_images", "the image is changed"),
        ("outside", "test_nothing_changes_outside_the_edited_region", "no pixel changes outside"),
        ("chance", "test_the_same_seed_gives_the_same_image", "the same seed gives the same pixels"),
        ("control", "test_a_control_keeps_the_answer", "says that it is a control"),
    ],
)
def test_wrong_editors_are_caught(fault: str, test: str, message: str) -> None:
    samples = list(islice(SceneBenchmark("color").samples("score"), 3))
    assert_broken(EditorConformance, lambda: Careless(fault), test, message, samples=lambda self: samples)


def test_wrong_painters_masks_and_planners_are_caught() -> None:
    class Lazy(Painter):
        name = "lazy"

        def paint(self, image: Any, mask: Any, plan: EditPlan, seed: int) -> Any:
            return image

        def identity(self) -> Any:
            return {"weights": object()}

    class Empty(MaskProvider):
        name = "empty"

        def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
            return np.zeros((48, 64), dtype=bool)

    class Idle(EditPlanner):
        name = "idle"

        def plan(self, sample: Sample) -> EditPlan:
            return EditPlan("red", "Red", "a red dog", None)

    assert_broken(PainterConformance, Lazy, "test_it_paints_inside_the_mask", "something changes inside the mask")
    assert_broken(PainterConformance, Lazy, "test_its_identity_is_plain", "plain values")
    assert_broken(MaskProviderConformance, Empty, "test_a_mask_is_boolean_as_large_as_the_image_and_not_empty", "neither empty")
    assert_broken(EditPlannerConformance, Idle, "test_a_plan_says_what_becomes_what", "source and target differ")


def test_wrong_tracers_are_caught() -> None:
    class Transposed(GroupPatching):
        def effects(self, context: Any, results: Any) -> Any:
            return [replace(effect, values=effect.values.T) for effect in super().effects(context, results)]

    class Blank(GroupPatching):
        def effects(self, context: Any, results: Any) -> Any:
            return [replace(effect, values=np.full_like(effect.values, np.nan)) for effect in super().effects(context, results)]

    class Idle(GroupPatching):
        def plan(self, context: Any) -> Any:
            return []

    assert_broken(TracerConformance, Transposed, "test_effects_are_layers_by_columns", "layers × columns")
    assert_broken(TracerConformance, Blank, "test_effects_are_layers_by_columns", "finite")
    assert_broken(TracerConformance, Idle, "test_it_plans_runs", "it plans runs")


def test_wrong_head_interventions_are_caught() -> None:
    class OneHead(HeadIntervention):
        name = "one"

        def interventions(self, heads: Sequence[HeadId], context: Any) -> Sequence[Variant]:
            return [Variant((SiteEdit(Site(heads[0].layer, "head_output", heads[0].head), operations.Zero()),))]

        def options(self) -> Any:
            return {"factor": float("nan")}

    class Unlike(OneHead):
        def folded(self, model: Any) -> Any:
            from contextlib import nullcontext

            return nullcontext()

    assert_broken(HeadInterventionConformance, OneHead, "test_it_edits_the_heads_and_no_others", "all the heads")
    assert_broken(HeadInterventionConformance, OneHead, "test_its_options_are_plain", "plain values")
    assert_broken(
        HeadInterventionConformance, Unlike, "test_weights_that_carry_it_compute_what_its_edits_compute", "folded weights compute"
    )
