"""The exact editor: changes one thing of a rendered scene and renders it again."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from vseam_core.api.interfaces import Editor
from vseam_core.api.types import Pair, Sample
from vseam_core.errors import SampleError
from vseam_plugins.benchmarks.scenes.benchmark import SceneImage
from vseam_plugins.benchmarks.scenes.edits import Edited, control_edit, edit_scene
from vseam_plugins.benchmarks.scenes.questions import Question
from vseam_plugins.benchmarks.scenes.world import Scene


class SceneEditor(Editor):
    """Pixels outside the edited boxes stay identical, and the true answer always changes; only for rendered scenes."""

    name = "scenes"

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        scene, question = _scene_of(sample)
        # The benchmark offers samples that this very generator can edit; other seeds draw other edits.
        name = sample.image_id if seed == 0 else f"{sample.image_id}/{seed}"
        edited = edit_scene(random.Random(name), scene, question)
        if edited is None:
            raise SampleError(f"{sample.identifier}: no single edit changes the answer to {question.text!r} in this scene")
        return _pair(sample, edited, "edit")

    def control(self, sample: Sample, seed: int = 0) -> Pair | None:
        scene, question = _scene_of(sample)
        edited = control_edit(random.Random(f"{sample.image_id}/control/{seed}"), scene, question)
        return None if edited is None else _pair(sample, edited, "control")


def _scene_of(sample: Sample) -> tuple[Scene, Question]:
    try:
        return sample.metadata["scene"], sample.metadata["question"]
    except KeyError:
        raise SampleError(f"{sample.identifier}: the scenes editor edits rendered scenes only; choose another editor") from None


def _pair(sample: Sample, edited: Edited, kind: Literal["edit", "control"]) -> Pair:
    clean = sample if kind == "control" else replace(sample, competitor=edited.answer)
    corrupt = replace(
        clean,
        identifier=f"{sample.identifier}/{kind}",
        image=SceneImage(edited.scene),
        answer=edited.answer,
        competitor=sample.competitor if kind == "control" else sample.answer,
        metadata={**sample.metadata, "scene": edited.scene},
    )
    boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in edited.boxes)
    return Pair(
        clean=clean,
        corrupt=corrupt,
        boxes=boxes,
        editor="scenes",
        source_term=edited.source_term,
        target_term=edited.target_term,
        kind=kind,
    )
