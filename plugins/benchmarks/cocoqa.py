"""COCO-QA: questions made from COCO captions, with answers of one word (Ren et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, ClassVar

from vseam_core.api.types import Answered, Level, Sample
from vseam_core.datasets.answers import normal_answer
from vseam_core.datasets.file_benchmark import FileBenchmark, spans_of
from vseam_core.datasets.records import Record, lines_of, text_of
from vseam_core.errors import InvalidFileError

_LEVELS: Mapping[str, Level] = {
    "object": "object",
    "number": "attribute",
    "count": "attribute",
    "color": "attribute",
    "location": "relation",
}
_TYPES = ("object", "number", "color", "location")
_PARTS = ("questions", "answers", "img_ids", "types")


class CocoQaBenchmark(FileBenchmark):
    """COCO-QA, as published with V-SEAM (`subset`: one CSV file each of color, count, location) or in the official release.

    Of the official release `questions` is the folder of a part (train or test) with four files whose lines belong together; the category of
    a sample is then its type. In the CSV files the columns train_image_id_count, question_count and answer_count hold image, question
    and answer. Answers are judged by exact match.
    """

    image_places = ("coco/train2014", "coco/val2014", "cocoqa/images", "images/coco")
    yes_no_rules: ClassVar = {}
    choice_rules: ClassVar = {}
    obtain = "https://www.cs.toronto.edu/~mren/research/imageqa/data/cocoqa; images: COCO 2014"

    def __init__(self, subset: str | None = None, **options: Any):
        if subset is not None and subset not in ("color", "count", "location"):
            raise InvalidFileError(f"cocoqa: unknown subset {subset!r}; expected color, count or location")
        super().__init__(
            f"cocoqa/{subset}" if subset else "cocoqa", level=_LEVELS[subset or "object"], category=subset or "cocoqa", **options
        )
        self.subset = subset
        file = f"{subset}_coco_qa.csv"
        self.question_files = (f"cocoqa/{file}", f"COCOQA/{file}") if subset else ("cocoqa/test",)

    def records(self) -> Iterator[Record]:
        """The lines of the CSV file, or of the four official files."""
        path = self.question_path()
        if not path.is_dir():
            yield from super().records()
            return
        files = [path / f"{part}.txt" for part in _PARTS]
        missing = next((file for file in files if not file.is_file()), None)
        if missing:
            raise InvalidFileError(f"{missing}: no such file; expected {', '.join(file.name for file in files)} in {path}")
        columns = [lines_of(text_of(file)) for file in files]
        for number, line in enumerate(zip_longest(*columns), 1):
            if None in line:
                raise InvalidFileError(f"{path}: line {number} is not in all of {', '.join(file.name for file in files)}")
            yield Record(f"{path.name}, line {number}", dict(zip(_PARTS, line, strict=True)))

    def sample_of(self, record: Record) -> Sample:
        """The sample of a line."""
        if self.subset is None:
            kind = record.text("types")
            category = _TYPES[int(kind)] if kind in ("0", "1", "2", "3") else "object"
            image, question, answer = record.text("img_ids"), record.text("questions"), record.answer("answers")
            identifier = record.place.rsplit(" ", 1)[-1]
        else:
            category = self.subset
            image, question = record.text("train_image_id_count"), record.text("question_count")
            answer, identifier = record.answer("answer_count"), record.text("")
        roles = spans_of(question, ("color" if category == "color" else "", "attribute"))
        return self.make(
            record,
            question_id=identifier,
            image=image,
            question=question,
            answer=answer,
            level=_LEVELS[category],
            category=category,
            roles=roles,
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """WUPS at 0.9 and 0.0 (Malinowski & Fritz 2014): Wu–Palmer similarity of the words, below 0.9 counted a tenth.

        None where nltk or its WordNet is missing (`pip install 'vseam[wups]'`, then `python -m nltk.downloader wordnet`).
        """
        if not answered or not _wordnet():
            return {"wups_0.9": None, "wups_0.0": None}
        pairs = [(normal_answer(item.text), normal_answer(item.sample.answer)) for item in answered]
        similar = [_similarity(*pair) for pair in pairs]
        return {
            "wups_0.9": sum(value if value >= 0.9 else 0.1 * value for value in similar) / len(similar),
            "wups_0.0": sum(similar) / len(similar),
        }


@cache
def _wordnet() -> Any:
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError):
        return None
    return wordnet


@cache
def _similarity(one: str, other: str) -> float:
    if one == other:
        return 1.0
    senses = [_wordnet().synsets(word.replace(" ", "_"), pos="n") for word in (one, other)]
    return max((first.wup_similarity(second) or 0.0 for first in senses[0] for second in senses[1]), default=0.0)
