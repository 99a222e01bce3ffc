"""HallusionBench: yes/no questions about figures and their altered copies (Guan et al. 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import OFFICIAL, vlmevalkit_yes_no
from vseam_core.datasets.file_benchmark import FileBenchmark, pool_of
from vseam_core.datasets.records import Record
from vseam_plugins.benchmarks.layouts import mean_or_none


def yes_anywhere(answer: str) -> str:
    """Yes where the answer holds "yes" anywhere, else no (lmms-eval's reading without a language model: "yesterday" is yes)."""
    return "yes" if "yes" in answer.lower() else "no"


class HallusionBench(FileBenchmark):
    """HallusionBench's questions that have a figure, from HallusionBench.json or the copy on the hub.

    Its authors judge by GPT-4; here an answer is read as VLMEvalKit does: yes or no among its words, not both. `figure_accuracy` (fAcc)
    asks that all questions about a figure are right, `question_accuracy` (qAcc) that a question is right on all its figures; questions
    without a figure are left out of both. All figures of a set count as one image (`image_id`).
    """

    source_split = "image"
    yes_no_rules = {**FileBenchmark.yes_no_rules, OFFICIAL: vlmevalkit_yes_no, "lmms-eval": yes_anywhere}  # noqa: RUF012
    question_files = ("hallusionbench/HallusionBench.json", "HallusionBench/HallusionBench.json", "hallusionbench")
    image_places = ("hallusionbench/hallusion_bench", "HallusionBench/hallusion_bench", "hallusionbench/images")
    obtain = "https://github.com/tianyi-lab/HallusionBench"

    def __init__(self, **options: Any):
        super().__init__("hallusionbench", level="object", category="hallusionbench", **options)

    def records(self) -> Iterator[Record]:
        """The records with a figure."""
        for record in super().records():
            if str(record.fields.get("visual_input")) != "0" and (record.fields.get("filename") or record.fields.get("image")):
                yield record

    def sample_of(self, record: Record) -> Sample:
        """The sample of a record."""
        kind = "_".join(record.text(name) for name in ("category", "subcategory", "set_id"))
        name, content = record.image("image", "filename")
        sample = self.make(
            record,
            question_id=f"{kind}_{record.text('figure_id')}_{record.text('question_id')}",
            # The release names its images from its own folder on: ./hallusion_bench/VD/…
            image=name.removeprefix("./").removeprefix("hallusion_bench/"),
            image_content=content,
            question=record.text("question"),
            answer=record.answer("gt_answer", yes_no=True),
            category=record.text("subcategory") or None,
            instruction="{question} Please answer yes or no.",
        )
        group = f"{self.name}/{kind}"
        about = {"image_name": sample.image_id, "figure": record.text("figure_id"), "asked": record.text("question_id")}
        return replace(sample, image_id=group, pool=pool_of(group), metadata={**sample.metadata, **about})

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """fAcc and qAcc, as shares."""
        by: dict[str, dict[tuple[str, str], list[bool]]] = {"figure": defaultdict(list), "asked": defaultdict(list)}
        for item in answered:
            right = self.judge(item.sample, item.text)
            for what, marks in by.items():
                marks[item.sample.image_id, item.sample.metadata[what]].append(right)
        figures = {"figure_accuracy": by["figure"], "question_accuracy": by["asked"]}
        return {name: mean_or_none(map(all, marks.values())) for name, marks in figures.items()} if answered else {}
