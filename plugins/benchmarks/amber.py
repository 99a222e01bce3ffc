"""AMBER's files, and its yes/no questions about things, attributes and relations, many of them not there (Wang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import OFFICIAL
from vseam_core.datasets.answers import normal_answer
from vseam_core.datasets.file_benchmark import FileBenchmark, find_file
from vseam_core.datasets.records import Record, read_records
from vseam_core.errors import InvalidFileError, SampleError

_KINDS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
}


def exactly_yes_no(answer: str) -> str | None:
    """ "Yes" or "No" as the authors' script compares it: with a capital, and nothing else around it but spaces."""
    return {"Yes": "yes", "No": "no"}.get(answer.strip())


class AmberFiles(FileBenchmark):
    """A part of AMBER: its queries, and what is annotated for each, as in the authors' repository."""

    image_places = ("amber/image", "AMBER/image", "amber/data/image")
    obtain = "https://github.com/junyangwang0410/AMBER"

    def __init__(self, name: str, annotations: str | Path | None = None, **options: Any):
        super().__init__(name, level="object", category="amber", **options)
        self._annotations = annotations

    def beside(self, option: str, given: str | Path | None, name: str) -> Path:
        """A further file: the one given, else that of this name beside the queries or in the folder above. Raises `InvalidFileError`."""
        path = self.question_path()
        there = [folder / name for folder in (path.parent, path.parent.parent)]
        found = given or next((place for place in there if place.is_file()), None)
        return find_file(self.name, option, found, (f"amber/data/{name}", f"AMBER/data/{name}"), self.obtain)

    @cached_property
    def truths(self) -> Mapping[str, Mapping[str, Any]]:
        """The annotation of each query, by its number. Raises `InvalidFileError` where their file is missing."""
        found = self.beside("annotations", self._annotations, "annotations.json")
        return {record.text("id"): record.fields for record in read_records(found)}


class AmberBenchmark(AmberFiles):
    """AMBER's discriminative questions, from query_discriminative.json with annotations.json beside it or in the folder above.

    The official figures count "no" as positive: `precision` of answers that say No, `recall` of questions whose answer is no, `f1`.
    Categories are existence, state, number, action and relation.
    """

    yes_no_rules = {**FileBenchmark.yes_no_rules, OFFICIAL: exactly_yes_no}  # noqa: RUF012
    question_files = ("amber/data/query/query_discriminative.json", "AMBER/data/query/query_discriminative.json")

    def __init__(self, **options: Any):
        super().__init__("amber", **options)

    def records(self) -> Iterator[Record]:
        """The questions with their annotations. Raises `InvalidFileError` for the generative queries."""
        for record in super().records():
            truth = self.truths.get(record.text("id"), {})
            if truth.get("type") == "generative":
                raise InvalidFileError(
                    f"{record.place}: a generative query, which the dataset amber/generative asks; give query_discriminative.json here"
                )
            yield Record(record.place, {**record.fields, "type": truth.get("type"), "truth": truth.get("truth")})

    def sample_of(self, record: Record) -> Sample:
        """The sample of a question."""
        name, content = record.image("image")
        gold = record.answer("truth", yes_no=True)
        if normal_answer(gold) not in ("yes", "no"):
            raise SampleError(f"{record.place}: the gold answer {gold!r:.60} is neither yes nor no (annotations.json)")
        return self.make(
            record,
            question_id=record.text("id"),
            image=name,
            image_content=content,
            question=record.text("query"),
            answer=normal_answer(gold).capitalize(),
            category=_KINDS.get(record.text("type"), "relation"),
            instruction="{question}",
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Precision, recall and F1 of no, as shares; the authors' F1 has 0.0001 more in its denominator."""
        rule = self.yes_no_rules[self._rule]
        gold = [normal_answer(item.sample.answer) == "no" for item in answered]
        said = [rule(item.text) == "no" for item in answered]
        right = sum(one and other for one, other in zip(gold, said, strict=True))
        precision, recall = (right / count if count else None for count in (sum(said), sum(gold)))
        both = None if precision is None or recall is None else 2 * precision * recall / (precision + recall + 0.0001)
        unparsed = float(sum(rule(item.text) is None for item in answered))
        return {"precision": precision, "recall": recall, "f1": both, "unparsed": unparsed} if answered else {}
