"""Benchmarks with several human answers to a question: VQAv2, OK-VQA, TextVQA, VizWiz, judged by VQA accuracy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answers import gold_answer, normal_answer, reference_answer
from vseam_core.datasets.file_benchmark import FileBenchmark, find_file
from vseam_core.datasets.records import KEY, Record, read_records
from vseam_core.datasets.vqa_accuracy import vqa_accuracy
from vseam_core.errors import SampleError

_PLACES: Mapping[str, tuple[str, ...]] = {
    "vqav2": ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/validation.parquet"),
    "okvqa": ("okvqa/OpenEnded_mscoco_val2014_questions.json", "okvqa/validation.parquet"),
    "textvqa": ("textvqa/TextVQA_0.5.1_val.json", "textvqa/validation.parquet"),
    "vizwiz": ("vizwiz/val.json", "vizwiz/validation.parquet"),
}
_ANNOTATIONS: Mapping[str, tuple[str, ...]] = {
    "vqav2": ("vqav2/v2_mscoco_val2014_annotations.json",),
    "okvqa": ("okvqa/mscoco_val2014_annotations.json",),
}
_IMAGES: Mapping[str, tuple[str, ...]] = {
    "vqav2": ("coco/val2014",), "okvqa": ("coco/val2014",), "textvqa": ("textvqa/train_images",), "vizwiz": ("vizwiz/val",),
}  # fmt: skip
_OBTAIN: Mapping[str, str] = {
    "vqav2": "https://visualqa.org/download.html", "okvqa": "https://okvqa.allenai.org/download.html",
    "textvqa": "https://textvqa.org/dataset", "vizwiz": "https://vizwiz.org/tasks-and-datasets/vqa",
}  # fmt: skip


class VqaBenchmark(FileBenchmark):
    """Questions with (usually ten) human answers.

    Reads official JSON files (VQAv2 and OK-VQA keep their answers in an `annotations` file) and parquet files of the Hugging Face
    copies, whose columns differ: ids are numbers or text, `answers` a list of words or of objects. The gold answer is the most frequent
    one; the score is VQA accuracy over all of them, and an answer that reaches half of it counts as right where one yes or no is needed.
    """

    yes_no_rules: ClassVar = {}
    choice_rules: ClassVar = {}

    def __init__(self, name: str, annotations: str | Path | None = None, **options: Any):
        super().__init__(name, level="object", category=name, **options)
        self._annotations = annotations
        self.question_files, self.image_places = _PLACES[name], _IMAGES[name]
        self.obtain = _OBTAIN[name]

    def records(self) -> Iterator[Record]:
        """The records of the question file, with the answers of the annotation file beside them where there is one."""
        answers = {}
        if self._annotations is not None or self.question_path().name.endswith("_questions.json"):
            path = find_file(self.name, "annotations", self._annotations, _ANNOTATIONS.get(self.name, ()), self.obtain)
            answers = {record.text(KEY): record.fields for record in read_records(path)}
        for number, record in enumerate(super().records(), 1):
            fields = {**record.fields, **answers.get(record.text(KEY), {})}
            if fields.get(KEY) is None:
                fields[KEY] = next((fields[name] for name in ("questionId", "id") if fields.get(name) is not None), number)
            yield Record(record.place, fields)

    def sample_of(self, record: Record) -> Sample:
        """The sample of a record."""
        references = references_of(record)
        common = gold_answer(_most_frequent(references)) if references else record.answer("multiple_choice_answer", "answer")
        if references and record.fields.get("multiple_choice_answer") is not None:
            common = record.answer("multiple_choice_answer")
        name, content = record.image("image", "image_id", "image_filename")
        sample = self.make(
            record,
            question_id=record.text(KEY),
            image=name,
            question=record.text("question"),
            answer=common,
            image_content=content,
            category=record.text("answer_type") or self.category,
        )
        sample.metadata["answers"] = references or [common]  # type: ignore[index]
        return sample

    def score(self, sample: Sample, answer: str) -> float:
        """VQA accuracy over the human answers."""
        return vqa_accuracy(answer, sample.metadata["answers"])

    def judge(self, sample: Sample, answer: str) -> bool:
        """Whether VQA accuracy reaches one half."""
        return self.score(sample, answer) >= 0.5

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """VQA accuracy, also by type of answer (yes/no, number, other) where the annotations name it, as mean scores."""
        scores: dict[str, list[float]] = {}
        for item in answered:
            mark = self.score(item.sample, item.text)
            kind = str(item.sample.metadata.get("answer_type") or "")
            for key in ("vqa_accuracy", *([f"vqa_accuracy {kind}"] if kind else [])):
                scores.setdefault(key, []).append(mark)
        return {name: sum(values) / len(values) for name, values in scores.items()}


def _most_frequent(references: Sequence[str]) -> str:
    """The answer that most people gave, whatever the case, in the writing that most of them chose."""
    common = Counter(map(normal_answer, references)).most_common(1)[0][0]
    return Counter(answer for answer in references if normal_answer(answer) == common).most_common(1)[0][0]


def references_of(record: Record) -> list[str]:
    """The human answers of a record: a list of words, of objects with an `answer`, or a text of either as JSON.

    Raises `SampleError` for anything else, and for an answer that is none (null, NaN, a list).
    """
    given = record.fields.get("answers")
    if isinstance(given, str):
        given = _read_text(record, given)
    if isinstance(given, Mapping):  # columns of an object instead of a list of objects
        given = given.get("answer")
    try:
        return [reference_answer(one["answer"] if isinstance(one, Mapping) else one) for one in given or ()]
    except ValueError as reason:
        raise SampleError(f"{record.place}: answers: one {reason}") from None
    except (KeyError, TypeError):
        raise SampleError(f"{record.place}: answers: expected words or objects with an answer, found {given!r:.80}") from None


def _read_text(record: Record, text: str) -> Any:
    """What a text of answers holds: a list or an object as JSON, else the one answer that it is."""
    if not text.lstrip().startswith(("[", "{")):
        return [text] if text.strip() else []
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SampleError(f"{record.place}: answers: begins as a JSON list and is none: {text!r:.80}") from None
