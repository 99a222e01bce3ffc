"""ScienceQA: multiple choice from school books; the questions that have an image (Lu et al. 2022)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import LETTERS, OFFICIAL, bare_letter
from vseam_core.datasets.choices import INSTRUCTION, asked_with, options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import KEY, Record
from vseam_plugins.benchmarks.layouts import mean_or_none, with_shared_images

_SAID = re.compile(r"The answer is ([A-Z])\.")


def read_letter(answer: str, options: Sequence[str]) -> str | None:
    """LLaVA's reading: the letter, perhaps with a full stop and a text after it, else the one "The answer is X." of the answer."""
    found = bare_letter(answer, options)
    said = _SAID.findall(answer)
    return found or (said[0] if len(said) == 1 and said[0] in LETTERS[: len(options)] else None)


class ScienceQaBenchmark(FileBenchmark):
    """ScienceQA's questions with an image, from problems.json beside the folders of images, or the copies on the hub.

    Questions without an image are left out, and so are those of another split than `source_split` (test). The gold answer is a number.
    """

    asks_options = True
    source_split = "test"
    choice_rules = {**FileBenchmark.choice_rules, OFFICIAL: read_letter, "lmms-eval": bare_letter}  # noqa: RUF012
    question_files = ("scienceqa/problems.json", "scienceqa/ScienceQA_TEST.tsv", "scienceqa/test.parquet", "scienceqa")
    image_places = ("scienceqa/images", "scienceqa")
    obtain = "https://github.com/lupantech/ScienceQA"

    def __init__(self, **options: Any):
        super().__init__("scienceqa", level="object", category="scienceqa", **options)

    def records(self) -> Iterator[Record]:
        """The records with an image, of the wanted split."""
        for record in with_shared_images(super().records()):
            if record.fields.get("image") and record.fields.get("split") in (None, self._source_split):
                yield record

    def sample_of(self, record: Record) -> Sample:
        """The sample of a record."""
        identifier = record.text(KEY, "index") or record.place.rsplit(" ", 1)[-1]
        options = options_of(record)
        context = f"Context: {record.text('hint')}\n" if record.text("hint") else ""
        image, content = record.image("image")
        # In the official release every question's image has the same name, in a folder of the question's own.
        if content is None and record.fields.get("split"):
            image = f"{record.text('split')}/{identifier}/{image}"
        return self.make(
            record,
            question_id=identifier,
            image=image,
            image_content=content,
            question=asked_with(f"{context}{record.text('question')}", options),
            answer=right_letter(record, record.fields.get("answer"), options),
            category=record.text("subject", "category") or None,
            options=options,
            instruction=INSTRUCTION,
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Accuracy of the grades 1 to 6 and 7 to 12, beside that of every subject."""
        marks: dict[str, list[float]] = {"accuracy grades 1-6": [], "accuracy grades 7-12": []}
        for item in answered:
            grade = re.fullmatch(r"grade(\d+)", str(item.sample.metadata.get("grade") or ""))
            if grade:
                marks["accuracy grades 1-6" if int(grade[1]) <= 6 else "accuracy grades 7-12"].append(self.judge(item.sample, item.text))
        return {**super().metrics(answered), **{name: mean_or_none(found) for name, found in marks.items()}} if answered else {}
