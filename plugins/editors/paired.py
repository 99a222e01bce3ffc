"""The editor of benchmarks that bring their own pairs: the corrupt image is the other image of the benchmark's group."""

from __future__ import annotations

from dataclasses import replace

from vseam_core.api.interfaces import Editor
from vseam_core.api.types import Pair, Sample
from vseam_core.datasets.answers import normal_answer
from vseam_core.errors import SampleError


class PairedEditor(Editor):
    """Nothing is painted: both images are photographs, which differ in more than one concept, and there are no boxes or masks.

    Takes samples whose metadata name a `counterpart`: the other `image` and its `answer` to the same question.
    """

    name = "paired"

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        """The sample beside the same question about the other image of its group."""
        other = sample.metadata.get("counterpart")
        if other is None:
            raise SampleError(f"{sample.identifier}: its dataset brings no second image of its own; choose another editor")
        if normal_answer(other["answer"]) == normal_answer(sample.answer):
            raise SampleError(f"{sample.identifier}: the answer to the other image is {sample.answer!r} too")
        clean = replace(sample, competitor=other["answer"])
        corrupt = replace(
            sample,
            identifier=f"{sample.identifier}/paired",
            image=other["image"],
            answer=other["answer"],
            competitor=sample.answer,
        )
        return Pair(clean=clean, corrupt=corrupt, boxes=(), editor=self.name, source_term=sample.answer, target_term=other["answer"])
