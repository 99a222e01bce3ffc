"""More promises, each broken once by a plugin that is wrong in one way; together with its neighbour, every check of every suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conformance.support import assert_broken
from vseam_core import testing
from vseam_core.api import interventions as operations
from vseam_core.api.interfaces import EditedImages, Editor, EditPlan, EditPlanner, HeadIntervention, MaskProvider, Painter, Tracer, Variant
from vseam_core.api.interventions import Site, SiteEdit
from vseam_core.api.presentation import Presentation
from vseam_core.api.types import HeadId, Pair, Sample
from vseam_core.errors import SampleError
from vseam_core.testing import (
    BenchmarkConformance,
    EditedImagesConformance,
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


class Mistaken(TinyModel):
    """A model with one fault."""

    def __init__(self, fault: str):
        super().__init__()
        self.fault = fault
        if fault == "heads":
            self.info = replace(self.info, heads=2)
        if fault == "weights":
            self.info = replace(self.info, weights_hash="")
        if fault == "training":
            self.module.train()

    @property
    def pads_left(self) -> bool:
        return self.fault == "padding"

    def encode(self, image: Any, question: str, roles: Any = (), answer_prefix: Any = ()) -> Any:
        if self.fault == "blind":
            image = Image.new("RGB", (8, 8))
        prompt = super().encode(image, question, roles, answer_prefix)
        return replace(prompt, ids=(prompt.key, *prompt.ids[1:])) if self.fault == "ids" else prompt

    def answer_ids(self, prompt: Any, gold: str, competitor: str | None) -> Any:
        return (
            super().answer_ids(prompt, *sorted((gold, competitor or "No")))
            if self.fault == "order"
            else super().answer_ids(prompt, gold, competitor)
        )

    def collate(self, prompts: Sequence[Any]) -> dict[str, torch.Tensor]:
        if self.fault == "empty" and not prompts:
            return {}
        if self.fault == "padding" and len({len(prompt) for prompt in prompts}) > 1:
            longest = max(map(len, prompts))
            rows = [torch.nn.functional.pad(p.inputs["input_ids"], (0, longest - len(p)), value=1) for p in prompts]
            return {"input_ids": torch.cat(rows), "pixel_values": torch.cat([p.inputs["pixel_values"] for p in prompts])}
        return super().collate(prompts)


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("heads", "test_the_engine_computes_what_the_model_computes", "info counts layers"),
        ("training", "test_it_is_a_model_that_says_what_identifies_it", "eval mode"),
        ("weights", "test_it_is_a_model_that_says_what_identifies_it", "its weights"),
        ("blind", "test_the_image_reaches_the_answer", "another image gives other logits"),
        ("ids", "test_keys_identify_image_and_question", "the same ids"),
        ("order", "test_answers_are_told_apart", "change places"),
        ("empty", "test_an_empty_batch_is_refused", "an empty batch is a ValueError"),
        ("padding", "test_prompts_of_different_length_are_padded_rightly_or_refused", "pads in front change no answer"),
    ],
)
def test_mistaken_models_are_caught(fault: str, test: str, message: str) -> None:
    assert_broken(ModelConformance, lambda: Mistaken(fault), test, message)


class Gone:
    def load(self) -> Image.Image:
        raise FileNotFoundError("gone")


class Flickering:
    def load(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng().integers(0, 256, (8, 8, 3), dtype=np.uint8))


class Faulty(SceneBenchmark):
    """The scenes world with other fields in its samples, or with a wrong pool `all`."""

    def __init__(self, all_pool: str = "all", **fields: Any):
        super().__init__("color")
        self.all_pool, self.fields = all_pool, fields

    def samples(self, pool: Any, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        if pool == "all" and self.all_pool == "others":
            return (replace(one, identifier=f"other/{one.identifier}") for one in super().samples(pool, split, limit, seed))
        chosen = self.all_pool if pool == "all" else pool
        return (replace(one, **self.fields) for one in super().samples(chosen, split, limit, seed))


@pytest.mark.parametrize(
    ("options", "test", "message"),
    [
        ({"all_pool": "score"}, "test_all_covers_every_pool", "covers every pool"),
        ({"all_pool": "others"}, "test_all_holds_samples_of_every_pool", "made of the pools' samples"),
        ({"image": Gone()}, "test_images_load_or_say_why_not", "an unreadable image is a SampleError"),
        ({"image": Flickering()}, "test_images_load_or_say_why_not", "the same pixels"),
        ({"question": " ", "roles": ()}, "test_samples_are_complete", "the question is not empty"),
        ({"split": "hard"}, "test_samples_are_complete", "the split is the one"),
    ],
)
def test_faulty_benchmarks_are_caught(options: dict[str, Any], test: str, message: str) -> None:
    assert_broken(BenchmarkConformance, lambda: Faulty(**options), test, message, most=6)


def test_editors_that_name_another_and_painters_that_scribble_are_caught() -> None:
    class Anonymous(SceneEditor):
        def edit(self, sample: Sample, seed: int = 0) -> Pair:
            return replace(super().edit(sample, seed), editor="somebody")

    class Scribbling(Painter):
        name = "scribbling"

        def paint(self, image: Any, mask: Any, plan: EditPlan, seed: int) -> Any:
            mask[:] = False
            return Image.fromarray(np.random.default_rng().integers(0, 256, (image.height, image.width, 3), dtype=np.uint8))

        def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
            return (0, 0)

    class Wavering(MaskProvider):
        name = "wavering"

        def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
            return np.random.default_rng().random((48, 64)) > 0.5

    class Wordy(EditPlanner):
        name = "wordy"

        def plan(self, sample: Sample) -> EditPlan:
            raise SampleError("one line\nand another")

    samples = list(islice(SceneBenchmark("color").samples("score"), 2))
    assert_broken(
        EditorConformance, Anonymous, "test_pairs_are_told_apart_and_name_their_editor", "names the editor", samples=lambda self: samples
    )
    assert_broken(PainterConformance, Scribbling, "test_it_leaves_what_it_is_given_alone", "neither the image nor the mask")
    assert_broken(PainterConformance, Scribbling, "test_its_working_size_is_a_size", "working size")
    assert_broken(MaskProviderConformance, Wavering, "test_it_is_the_same_each_time", "the same mask each time")
    assert_broken(EditPlannerConformance, Wordy, "test_what_it_cannot_read_is_refused", "one line")


def test_a_painter_without_a_seed_is_caught() -> None:
    class Unseeded(Painter):
        name = "unseeded"

        def paint(self, image: Any, mask: Any, plan: EditPlan, seed: int) -> Any:
            return Image.fromarray(np.random.default_rng().integers(0, 256, (image.height, image.width, 3), dtype=np.uint8))

    assert_broken(PainterConformance, Unseeded, "test_the_same_seed_gives_the_same_pixels", "the same seed gives the same pixels")


class Misreading(GroupPatching):
    """Group patching with a fault."""

    def __init__(self, fault: str):
        super().__init__(groups=["image", "question"])
        self.fault = fault

    def plan(self, context: Any) -> Any:
        if self.fault == "trusting":
            return super().plan(replace(context, corrupt=context.clean))
        runs = list(super().plan(context))
        return runs if self.fault != "shuffled" else [runs[index] for index in np.random.default_rng().permutation(len(runs))]

    def effects(self, context: Any, results: Any) -> Any:
        found = super().effects(context, results)
        match self.fault:
            case "twice":
                return found * 2
            case "swapped":
                return [replace(effect, clean=effect.corrupt) for effect in found]
            case "drifting":
                return [replace(effect, values=effect.values + np.float32(np.random.default_rng().random())) for effect in found]
        return found

    def options(self) -> Any:
        return {"object": object()} if self.fault == "opaque" else {}

    def presentation(self) -> Any:
        match self.fault:
            case "speechless":
                return None
            case "elsewhere":
                return Presentation(columns={"moon": "the moon"})
            case "numbered":
                return Presentation(columns={1: "first"})  # type: ignore[dict-item]
        return super().presentation()


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("speechless", "test_it_says_how_its_effects_are_shown", "returns a Presentation"),
        ("elsewhere", "test_it_says_how_its_effects_are_shown", "among those of the effects"),
        ("numbered", "test_it_says_how_its_effects_are_shown", "among those of the effects"),
        ("shuffled", "test_it_plans_runs", "the plan is the same each time"),
        ("trusting", "test_prompts_that_do_not_match_are_refused", "of different length are refused"),
        ("twice", "test_no_two_effects_are_stored_under_one_key", "tell effects apart"),
        ("swapped", "test_clean_and_corrupt_are_the_unchanged_runs", "without any change"),
        ("drifting", "test_effects_do_not_depend_on_the_engine", "replay gives what"),
        ("opaque", "test_its_options_are_plain", "plain values"),
        ("forgetful", "test_its_options_are_plain", "every option that changes"),
    ],
)
def test_misreading_tracers_are_caught(fault: str, test: str, message: str) -> None:
    other = {"other": lambda self: Misreading("")} if fault == "forgetful" else {}
    assert_broken(TracerConformance, lambda: Misreading(fault), test, message, **other)


class Clumsy(HeadIntervention):
    """Sets heads to zero, with a fault."""

    name = "clumsy"

    def __init__(self, fault: str):
        self.fault = fault
        self.random = np.random.default_rng()

    def interventions(self, heads: Sequence[HeadId], context: Any) -> Sequence[Variant]:
        operation = operations.Scale(1.0) if self.fault == "idle" else operations.Zero()
        if self.fault == "infinite":
            operation = operations.Replace(np.full((len(context.base), context.shape.head_dim), np.inf, dtype=np.float32))
        known = [head for head in heads if head.layer < context.shape.layers] if self.fault == "lenient" else heads
        positions = None if self.fault == "everywhere" else context.positions
        edits = tuple(SiteEdit(Site(head.layer, "head_output", head.head), operation, positions) for head in known)
        copies = int(self.random.integers(1, 1000)) if self.fault == "uneven" else 1
        return [Variant(edits)] * copies

    def replacement(self) -> Any:
        return "zero" if self.fault == "wordy" else super().replacement()


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("everywhere", "test_it_keeps_to_the_positions_of_the_context", "at the positions of the context"),
        ("lenient", "test_a_head_that_does_not_exist_is_refused", "is refused"),
        ("idle", "test_it_changes_the_answer_unless_it_is_meant_not_to", "replacing heads changes the answer"),
        ("neutral", "test_it_changes_the_answer_unless_it_is_meant_not_to", "identity.. changes nothing"),
        ("infinite", "test_effects_are_finite_and_do_not_depend_on_the_engine", "answers are finite"),
        ("uneven", "test_it_is_the_same_each_time", "the same variants each time"),
        ("wordy", "test_it_says_what_stands_in_place_of_a_head", "returns a Replacement"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_clumsy_head_interventions_are_caught(fault: str, test: str, message: str) -> None:
    identity = {"identity": lambda self: Clumsy("")} if fault == "neutral" else {}
    assert_broken(HeadInterventionConformance, lambda: Clumsy(fault), test, message, **identity)


class Unnamed:
    """What is wrong with what a plugin says of itself."""

    fault = ""
    version = 1

    def __init__(self, strength: float = 1.0, where: str = "here"):
        self.strength, self.where = strength, where
        if self.fault == "version":
            self.version = "2.1"  # type: ignore[assignment]

    def options(self) -> dict[str, object]:
        said: dict[str, object] = {"strength": self.strength, "where": self.where}
        match self.fault:
            case "forgetful":
                del said["where"]
            case "constant":
                said["strength"] = 1.0
            case "opaque":
                said["where"] = object()
        return said

    identity = options


BASES = {
    TracerConformance: (Tracer, "plan", "effects"),
    HeadInterventionConformance: (HeadIntervention, "interventions"),
    PainterConformance: (Painter, "paint"),
    MaskProviderConformance: (MaskProvider, "mask"),
    EditPlannerConformance: (EditPlanner, "plan"),
    EditorConformance: (Editor, "edit"),
    EditedImagesConformance: (EditedImages, "plan", "image", "mask"),
}


@pytest.mark.parametrize("suite", BASES)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("forgetful", "its option 'where' is part of"),
        ("constant", "another strength is another identity"),
        ("opaque", "plain values"),
        ("version", "its version is a whole number"),
        ("nameless", "it has a name"),
    ],
)
def test_plugins_that_do_not_say_what_identifies_them_are_caught(suite: Any, fault: str, message: str) -> None:
    base, *methods = BASES[suite]
    members: dict[str, Any] = {name: lambda self, *_: None for name in methods}
    kind = type("Made", (Unnamed, base), {**members, "name": "" if fault == "nameless" else "made", "fault": fault})
    assert_broken(suite, kind, "test_it_says_what_identifies_its_results", message, samples=lambda self: [])
    sound = type("Sound", (kind,), {"fault": "", "name": "sound"})
    type("TestIt", (suite,), {"make": lambda self: sound(), "samples": lambda self: []})().test_it_says_what_identifies_its_results()


def test_a_rule_whose_version_is_no_number_is_caught() -> None:
    class Corrected(SceneBenchmark):
        version = "2"  # type: ignore[assignment]

    assert_broken(BenchmarkConformance, lambda: Corrected("color"), "test_its_rule_has_a_version", "whole number")


def test_every_check_of_every_suite_is_broken_once() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*_fail.py"))
    suites = [getattr(testing, name) for name in testing.__all__ if name.endswith("Conformance")]
    checks = [(suite.__name__, name) for suite in suites for name in dir(suite) if name.startswith("test_")]
    assert [check for check in checks if f'"{check[1]}"' not in source] == []


def test_the_suites_do_not_import_pytest(tmp_path: Path) -> None:
    code = "import vseam_core.testing, sys; print([name for name in sys.modules if name.split('.')[0] in ('pytest', '_pytest')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True)
    assert run.stdout.strip() == "[]"
