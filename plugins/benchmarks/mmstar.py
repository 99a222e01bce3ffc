"""MMStar: multiple choice that cannot be answered without the image (Chen et al. 2024)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import LETTERS, OFFICIAL, mmstar_letter
from vseam_core.datasets.choices import INSTRUCTION, asked_with, options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import Record
from vseam_plugins.benchmarks.layouts import image_of, mean_or_none, with_shared_images

_FOUR = LETTERS[:4]
_OPTION = re.compile(r"(?:^|[,;\n]\s*|\s)\(?([A-D])[:.)]\s*")


class MmstarBenchmark(FileBenchmark):
    """MMStar, from the authors' parquet file (where the options stand in the question) or VLMEvalKit's TSV.

    The official figure is the mean over the six categories. Its rule takes the first character for the answer, so "a dog" is A.
    """

    asks_options = True
    source_split = "val"
    choice_rules = {**FileBenchmark.choice_rules, OFFICIAL: mmstar_letter, "lmms-eval": mmstar_letter}  # noqa: RUF012
    question_files = ("mmstar/mmstar.parquet", "mmstar/MMStar.tsv", "mmstar")
    image_places = ("mmstar/images",)
    obtain = "https://github.com/MMStar-Benchmark/MMStar"

    def __init__(self, **options: Any):
        super().__init__("mmstar", level="object", category="mmstar", **options)

    def records(self) -> Iterator[Record]:
        """The rows of the file."""
        yield from with_shared_images(super().records())

    def sample_of(self, record: Record) -> Sample:
        """The sample of a row."""
        question, options = record.text("question"), options_of(record)
        asked = asked_with(question, options) if options else question
        options = options or options_in(question)
        image, content = image_of(record, "image")
        return self.make(
            record,
            question_id=record.text("index"),
            image=image,
            image_content=content,
            question=asked,
            answer=right_letter(record, record.fields.get("answer"), options),
            category=record.text("category") or None,
            options=options,
            instruction=INSTRUCTION,
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """`mean_of_categories`, the official figure."""
        marks: dict[str, list[bool]] = defaultdict(list)
        for item in answered:
            marks[item.sample.category].append(self.judge(item.sample, item.text))
        means = [sum(right) / len(right) for right in marks.values()]
        return {**super().metrics(answered), "mean_of_categories": mean_or_none(means)} if answered else {}


def options_in(question: str) -> tuple[str, ...]:
    """The four options that stand in a question as "Options: A: …, B: …"; where they cannot be told apart, the letters themselves."""
    text = question.rpartition("Options:")[2] if "Options:" in question else question.partition("\n")[2]
    found = list(_OPTION.finditer(text))
    if "".join(match[1] for match in found) != _FOUR:
        return tuple(_FOUR)
    ends = [match.start() for match in found[1:]] + [len(text)]
    options = tuple(text[match.end() : end].strip().rstrip(",;").strip() for match, end in zip(found, ends, strict=True))
    return options if all(options) and len({option.lower() for option in options}) == len(options) else tuple(_FOUR)
