"""MME: two yes/no questions about each image, in fourteen categories (Fu et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import YES_NO_RULES, yes_or_no
from vseam_core.datasets.answers import normal_answer, other_word
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.images import image_folders
from vseam_core.datasets.records import KEY, Record, lines_of, text_of
from vseam_core.errors import InvalidFileError, SampleError


class MmeBenchmark(FileBenchmark):
    """MME, from the official folders (a text file of tab-separated questions beside each image) or a parquet file.

    A question id names an image and comes twice. Answers are read by their first word; what begins with neither is wrong.
    """

    yes_no_rules: ClassVar = {**YES_NO_RULES, "official": yes_or_no}
    choice_rules: ClassVar = {}
    question_files = ("mme", "mme/test.parquet")
    image_places = ("mme/images",)
    obtain = "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models (MME)"

    def __init__(self, **options: Any):
        super().__init__("mme", level="object", category="mme", **options)

    def records(self) -> Iterator[Record]:
        """The lines of all text files below the folder, or the rows of the file."""
        path = self.question_path()
        if not path.is_dir():
            yield from super().records()
            return
        files = sorted(path.rglob("*.txt"))
        if not files:
            raise InvalidFileError(f"{path}: expected MME's category folders with a .txt file for each image")
        for file in files:
            category = next(part for part in (file.parent.name, file.parent.parent.name) if part != "questions_answers_YN")
            for number, line in enumerate(lines_of(text_of(file)), 1):
                parts = line.split("\t")
                if len(parts) != 2:
                    raise InvalidFileError(f"{file}:{number}: expected a question and an answer with a tab between them")
                fields = {
                    KEY: f"{category}/{file.stem}",
                    "question": parts[0],
                    "answer": parts[1],
                    "category": category,
                    "folder": str(file.parent),
                }
                yield Record(f"{category}/{file.name}, line {number}", fields)

    def sample_of(self, record: Record) -> Sample:
        """The sample of a line; both questions about an image keep its id, told apart by their number."""
        name, content = record.image("image", KEY)
        gold = record.answer("answer", yes_no=True)
        if other_word(gold) is None:
            raise SampleError(f"{record.place}: the gold answer {gold!r:.60} is neither yes nor no")
        identifier = record.text(KEY)
        sample = self.make(
            record,
            question_id=identifier,
            image=name or identifier,
            question=record.text("question"),
            answer=gold,
            category=record.text("category") or None,
            image_content=content,
        )
        if record.fields.get("folder"):
            folder = Path(record.text("folder"))
            places = [folder, folder.parent / "images"]
            sample = replace(sample, image=image_folders(places).find(identifier.rsplit("/", 1)[-1]))
        return sample

    def judge(self, sample: Sample, answer: str) -> bool:
        """Whether the first word is the gold answer, or what another rule reads."""
        return self.yes_no_rules[self._rule](answer) == normal_answer(sample.answer)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Accuracy in percent and accuracy+ (images with both answers right), their sum over categories as MME's score."""
        by_category: dict[str, dict[str, list[bool]]] = {}
        for item in answered:
            images = by_category.setdefault(item.sample.category, {})
            images.setdefault(item.sample.image_id, []).append(self.judge(item.sample, item.text))
        total = 0.0
        figures: dict[str, float | None] = {}
        for category, images in sorted(by_category.items()):
            marks = [mark for both in images.values() for mark in both]
            pairs = [both for both in images.values() if len(both) == 2]
            plus = sum(map(all, pairs)) / len(pairs) if pairs else None
            figures[f"accuracy {category}"], figures[f"accuracy+ {category}"] = sum(marks) / len(marks), plus
            total += 100 * (sum(marks) / len(marks) + (plus or 0.0))
        return {"mme_score": total, **figures} if answered else {}
