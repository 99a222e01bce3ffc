"""Benchmarks with several human answers to a question: VQAv2, OK-VQA, TextVQA, VizWiz, judged by VQA accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answers import vqa_accuracy
from vseam_core.datasets.file_benchmark import FileBenchmark, find_file
from vseam_core.datasets.records import KEY, Record, read_records
from vseam_core.errors import InvalidFileError

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
            fields.setdefault(KEY, fields.get("questionId") or fields.get("id") or number)
            yield Record(record.place, fields)

    def sample_of(self, record: Record) -> Sample:
        """The sample of a record."""
        references = references_of(record)
        common = record.text("multiple_choice_answer") or (
            Counter(references).most_common(1)[0][0] if references else record.text("answer")
        )
        name, content = picture_of(record)
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
        """VQA accuracy. An answer is compared as the official code does, in lower case and without a full stop at the end."""
        return vqa_accuracy(answer.strip().rstrip(".").lower(), sample.metadata["answers"])

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


def references_of(record: Record) -> list[str]:
    """The human answers of a record: a list of words, of objects with an `answer`, or a text of either as JSON."""
    given = record.fields.get("answers") or ()
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):  # columns of an object instead of a list of objects
        given = given.get("answer") or ()
    try:
        return [str(one["answer"] if isinstance(one, Mapping) else one) for one in given]
    except (KeyError, TypeError):
        raise InvalidFileError(f"{record.place}: answers: expected words or objects with an answer, found {given!r:.80}") from None


def picture_of(record: Record) -> tuple[str, bytes | None]:
    """The name of a record's picture, and the picture itself where the record carries it."""
    image = record.fields.get("image")
    if isinstance(image, Mapping):
        name = str(image.get("path") or record.text("image_id") or record.text(KEY))
        return name, image.get("bytes")
    return record.text("image") or record.text("image_id") or record.text("image_filename"), None
