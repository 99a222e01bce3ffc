"""Registers the scenes world: its seven categories as datasets, and its exact editor."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord, EditorRecord

PLUGIN_API = 1

_BENCHMARK = "vseam_plugins.benchmarks.scenes.benchmark:SceneBenchmark"
_CATEGORIES = {
    "animal": "is there a dog?",
    "vehicle": "is there a car?",
    "indoor": "is there a lamp?",
    "color": "is the dog red?",
    "material": "is the dog striped?",
    "spatial": "is the dog to the left of the car?",
    "action": "is the dog pulling the car?",
}
_OPEN_QUESTIONS = {
    "animal": "which animal is it?",
    "vehicle": "which vehicle is it?",
    "indoor": "which indoor thing is it?",
    "color": "what colour is the dog?",
    "material": "what texture is the dog?",
    "spatial": "is the dog left or right of the car?",
    "action": "what is the dog pulling?",
}
_CROSSED_QUESTIONS = {
    "animal": "is the dog in this picture?",
    "vehicle": "is the car in this picture?",
    "indoor": "is the lamp in this picture?",
    "color": "is there a red dog?",
    "material": "is there a striped dog?",
    "spatial": "is there a dog to the left of the car?",
    "action": "is there a dog pulling the car?",
}


@hookimpl
def vseam_datasets() -> Iterator[DatasetRecord]:
    """Yes/no questions of every category, the same in another level's form and as open questions, and colours with a skewed prior."""
    for category, example in _CATEGORIES.items():
        yield DatasetRecord(
            name=f"scenes/{category}",
            summary=f"rendered scenes, yes/no: {example}",
            factory=_BENCHMARK,
            options={"category": category},
        )
    for form, family, example in (
        ("yes_no", "scenes-skewed", "is the fish orange?"),
        ("open", "scenes-skewed-open", "what colour is the fish?"),
    ):
        yield DatasetRecord(
            name=f"{family}/color",
            summary=f"rendered scenes in which some objects have a usual colour: {example}",
            factory=_BENCHMARK,
            options={"category": "color", "form": form, "world": "skewed"},
        )
    for category, example in _OPEN_QUESTIONS.items():
        yield DatasetRecord(
            name=f"scenes-open/{category}",
            summary=f"rendered scenes, open: {example}",
            factory=_BENCHMARK,
            options={"category": category, "form": "open"},
        )
    for category, example in _CROSSED_QUESTIONS.items():
        yield DatasetRecord(
            name=f"scenes-crossed/{category}",
            summary=f"rendered scenes, yes/no in the form of another level: {example}",
            factory=_BENCHMARK,
            options={"category": category, "wording": "crossed"},
        )


@hookimpl
def vseam_editors() -> Iterator[EditorRecord]:
    """The editor that changes one thing of a scene and renders it again."""
    yield EditorRecord(
        name="scenes",
        summary="changes one object, attribute or relation of a scene and renders it again: exact outside the edited boxes",
        factory="vseam_plugins.editors.scenes:SceneEditor",
    )
