"""POPE: is there a … in the image? Random, popular and adversarial absent things on COCO images (Li et al. 2023)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import YES_NO_RULES, only_yes_no, pope_official, yes_or_no
from vseam_core.datasets.answers import normal_answer, other_word
from vseam_core.datasets.file_benchmark import FileBenchmark, spans_of
from vseam_core.datasets.images import without_suffix
from vseam_core.datasets.records import Record
from vseam_core.errors import InvalidFileError, SampleError

SPLITS = ("adversarial", "popular", "random")
# "imange" is how the published files write it after "an".
_QUESTION = re.compile(r"Is there an? (?P<thing>.+?) in the ima(?:g|ng)e\?", re.IGNORECASE)


class PopeBenchmark(FileBenchmark):
    """One of POPE's three files, in either revision (2,910 or 3,000 random rows, whose ids are shifted).

    A question is known by its image and its words, never by its number, which differs from file to file. Answers are judged by the
    official rule, which takes for yes whatever does not say no; `reading: strict` judges by the first word and counts the rest as unparsed.
    """

    yes_no_rules: ClassVar = {**YES_NO_RULES, "official": pope_official, "lmms-eval": only_yes_no}
    choice_rules: ClassVar = {}
    image_places = ("coco/val2014", "pope/images", "val2014", "images/coco")
    obtain = "https://github.com/RUCAIBox/POPE (output/coco); images: COCO val2014"

    def __init__(self, split: str, reading: str = "official", judge: str = "", **options: Any):
        if split not in SPLITS:
            raise InvalidFileError(f"pope: unknown file {split!r}; expected one of {', '.join(SPLITS)}")
        if reading not in ("official", "strict"):
            raise InvalidFileError(f"pope: unknown reading {reading!r}; expected official or strict")
        super().__init__(f"pope/{split}", level="object", category="object", judge=judge or reading, **options)
        self.split = split
        self.question_files = (f"pope/coco_pope_{split}.json", f"POPE/coco_pope_{split}.json", f"pope/coco_pope_{split}.jsonl")

    def records(self) -> Iterator[Record]:
        """The rows of the file; of one that holds all three kinds (a copy on the hub), those of this kind."""
        for record in super().records():
            if record.fields.get("category") in (None, self.split) or record.fields["category"] not in SPLITS:
                yield record

    def sample_of(self, record: Record) -> Sample:
        """The sample of a line (`text`, `label`) or of a row of the copies on the hub (`question`, `answer`)."""
        question = record.text("text", "question")
        image, content = record.image("image", "image_source")
        gold = record.answer("label", "answer", yes_no=True)
        if other_word(gold) is None:
            raise SampleError(f"{record.place}: the gold answer {gold!r:.60} is neither yes nor no")
        found = _QUESTION.search(question)
        thing = found["thing"] if found else ""
        number = re.sub(r"^0*(\d+)$", r"\1", without_suffix(image).rsplit("_", 1)[-1])
        words = re.sub(r"[^a-z0-9]+", "-", (thing or question).lower()).strip("-")
        roles = spans_of(question, (thing, "object"))
        return self.make(
            record,
            question_id=f"{number}-{words}",
            image=image,
            question=question,
            answer=gold,
            roles=roles,
            image_content=content,
        )

    def judge(self, sample: Sample, answer: str) -> bool:
        """By the official rule, or the strict one."""
        return self.read(answer) == normal_answer(sample.answer)

    def read(self, answer: str) -> str | None:
        """What an answer says: yes or no, None where another reading than the official one finds neither."""
        return self.yes_no_rules[self._rule](answer)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Precision, recall and F1 of yes, and the yes-ratio; `unparsed` counts answers that begin with neither word.

        An answer that a strict reading cannot parse is wrong, and counts as no yes.
        """
        if not answered:
            return {}
        gold = [normal_answer(item.sample.answer) == "yes" for item in answered]
        said = [self.read(item.text) == "yes" for item in answered]
        right = sum(one and other for one, other in zip(gold, said, strict=True))
        found = {
            "precision": _share(right, sum(said)),
            "recall": _share(right, sum(gold)),
            "f1": _share(2 * right, sum(said) + sum(gold)),
        }
        unparsed = sum(yes_or_no(item.text) is None for item in answered)
        return {**found, "yes_ratio": sum(said) / len(said), "unparsed": float(unparsed)}


def _share(part: int, whole: int) -> float | None:
    """A share, or None of nothing."""
    return part / whole if whole else None
