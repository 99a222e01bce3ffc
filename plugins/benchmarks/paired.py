"""Benchmarks of two questions on two images, where whatever ignores the image is wrong on one of each: NaturalBench and Winoground."""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import LETTERS, OFFICIAL, first_yes_no
from vseam_core.datasets.answers import normal_answer
from vseam_core.datasets.file_benchmark import FileBenchmark, pool_of
from vseam_core.datasets.records import Record
from vseam_core.errors import InvalidFileError
from vseam_plugins.benchmarks.layouts import mean_or_none

# Question and image of the four parts of a group, in the order of NaturalBench's own evaluation.
PARTS = tuple(itertools.product((0, 1), (0, 1)))


class PairedBenchmark(FileBenchmark):
    """Groups of two questions and two images, asked as four samples.

    Both images of a group count as one (`image_id`): errors are clustered by group, and no group is torn between pools. A sample knows the
    group's other image and its answer to the same question (`metadata["counterpart"]`): a pair without an edit. Figures are
    `question_accuracy` (a question right on both images), `image_accuracy` (both questions right on an image) and `group_accuracy` (all
    four), over groups that were asked whole.
    """

    yes_no_rules = {**FileBenchmark.yes_no_rules, OFFICIAL: first_yes_no}  # noqa: RUF012

    @abstractmethod
    def groups(self) -> Iterator[tuple[str, Sequence[Record]]]:
        """Each group's name, and its four records in the order of `PARTS`, with the fields question, answer and image."""

    def records(self) -> Iterator[Record]:
        """The four parts of every group, each with the other image and its answer."""
        for name, parts in self.groups():
            for place, (question, image) in enumerate(PARTS):
                other = parts[PARTS.index((question, 1 - image))].fields
                about = {"group": name, "part": place, "other_image": other.get("image"), "other_answer": other.get("answer")}
                yield Record(f"{parts[place].place}, question {question} on image {image}", {**parts[place].fields, **about})

    def in_group(self, record: Record, sample: Sample) -> Sample:
        """A sample made of a record, as a part of its group."""
        group, part = str(record.fields["group"]), int(record.fields["part"])
        other = Record(record.place, {"image": record.fields["other_image"], "answer": record.fields["other_answer"]})
        name, content = other.image("image")
        counterpart = {"image": self.image_source(name, content), "answer": other.answer("answer")}
        metadata = {**sample.metadata, "group": group, "part": part, "image_name": sample.image_id, "counterpart": counterpart}
        metadata.pop("other_image", None)
        identity = f"{self.name}/{group}"
        return replace(sample, image_id=identity, pool=pool_of(identity), metadata=metadata)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Accuracy by question, image and group."""
        marks: dict[str, dict[int, bool]] = defaultdict(dict)
        for item in answered:
            marks[item.sample.image_id][item.sample.metadata["part"]] = self.judge(item.sample, item.text)
        whole = [tuple(right[place] for place in range(len(PARTS))) for right in marks.values() if len(right) == len(PARTS)]
        by_question = [first and second for parts in whole for first, second in (parts[:2], parts[2:])]
        by_image = [first and second for parts in whole for first, second in (parts[::2], parts[1::2])]
        figures = {
            "question_accuracy": mean_or_none(by_question),
            "image_accuracy": mean_or_none(by_image),
            "group_accuracy": mean_or_none(map(all, whole)),
        }
        return {**super().metrics(answered), **figures} if answered else {}


def first_of_two(answer: str, options: Sequence[str]) -> str | None:
    """Whichever of A and B comes first as a word, whatever its case: NaturalBench's own rule, by which "a dog" is A."""
    found = re.search(r"\b([AB])\b", answer, re.IGNORECASE)
    return found[1].upper() if found else None


class NaturalBench(PairedBenchmark):
    """NaturalBench (Li et al. 2024), from the authors' parquet files (a group a row) or the copy for lmms-eval (four rows a group).

    Questions are yes/no, or name two options A and B themselves. The official figures Q-Acc, I-Acc and G-Acc are those by question, by
    image and by group.
    """

    asks_options = True
    choice_rules = {**FileBenchmark.choice_rules, OFFICIAL: first_of_two, "lmms-eval": first_of_two}  # noqa: RUF012
    yes_no_rules = {**PairedBenchmark.yes_no_rules, "lmms-eval": first_yes_no}  # noqa: RUF012
    question_files = ("naturalbench/naturalbench.parquet", "naturalbench")
    image_places = ("naturalbench/images",)
    obtain = "https://huggingface.co/datasets/BaiqiL/NaturalBench"

    def __init__(self, **options: Any):
        super().__init__("naturalbench", level="object", category="naturalbench", **options)

    def groups(self) -> Iterator[tuple[str, Sequence[Record]]]:
        """The rows of the file, or each four of them."""
        rows = super(PairedBenchmark, self).records()
        for number, row in enumerate(rows):
            if "Question_0" in row.fields:
                yield row.text("Index"), [_part(row, question, image) for question, image in PARTS]
                continue
            four = [row, *itertools.islice(rows, 3)]
            if len(four) < len(PARTS):
                raise InvalidFileError(f"{row.place}: expected four rows for each group (two questions on two images), found {len(four)}")
            parts = [_renamed(one, question="Question", answer="Answer", image="Image") for one in four]
            if [parts[0].text("question"), parts[2].text("question")] != [parts[1].text("question"), parts[3].text("question")]:
                raise InvalidFileError(
                    f"{row.place}: expected one question on both images, then another on both; these four rows are other ones"
                )
            yield str(number), parts

    def sample_of(self, record: Record) -> Sample:
        """The sample of a part of a group."""
        question = record.text("question")
        options: tuple[str, ...] = ()
        instruction = "{question} Please answer Yes or No."
        if record.text("Question_Type") == "multiple_choice":
            options, instruction = two_options(question), "{question} Please output the letter corresponding to the correct option."
        image, content = record.image("image")
        sample = self.make(
            record,
            question_id=f"{record.text('group')}-{record.text('part')}",
            image=image,
            image_content=content,
            question=question,
            answer=record.answer("answer"),
            category=record.text("Question_Type") or None,
            options=options,
            instruction=instruction,
        )
        return self.in_group(record, sample)


def _part(row: Record, question: int, image: int) -> Record:
    names = {"question": f"Question_{question}", "image": f"Image_{image}", "answer": f"Image_{image}_Question_{question}"}
    return _renamed(row, **names)


def _renamed(row: Record, **names: str) -> Record:
    """A row with some of its fields under other names; those of the whole group are left out."""
    kept = {name: value for name, value in row.fields.items() if not re.match(r"Image|Question_\d|Question$|Answer$", name)}
    return Record(row.place, {**kept, **{new: row.fields.get(old) for new, old in names.items()}})


def two_options(question: str) -> tuple[str, str]:
    """The two options that a question of NaturalBench names ("Option: A: …; B: …;"), else their letters."""
    found = re.search(r"A:\s*(.+?)\s*;\s*B:\s*(.+?)\s*;?\s*$", question, re.DOTALL)
    both = (found[1], found[2]) if found else (LETTERS[0], LETTERS[1])
    return both if normal_answer(both[0]) != normal_answer(both[1]) else (LETTERS[0], LETTERS[1])


class Winoground(PairedBenchmark):
    """Winoground (Thrush et al. 2022): two images, two captions of the same words. From the authors' examples.jsonl or their parquet file.

    A model that answers questions is asked of each caption and image whether they belong together, in the words of VQAScore (Lin et al.
    2024). The official text, image and group scores compare the match scores of an image-text model; of yes and no answers all three are
    `group_accuracy`, and `question_accuracy` and `image_accuracy` count half groups.
    """

    source_split = "test"
    question_files = ("winoground/examples.jsonl", "winoground/winoground.parquet", "winoground")
    image_places = ("winoground/images",)
    obtain = "https://huggingface.co/datasets/facebook/winoground"

    def __init__(self, **options: Any):
        super().__init__("winoground", level="relation", category="winoground", **options)

    def groups(self) -> Iterator[tuple[str, Sequence[Record]]]:
        """A row for each group: its captions are true of the image of the same number."""
        for number, row in enumerate(super(PairedBenchmark, self).records()):
            parts = []
            for caption, image in PARTS:
                fields = {"question": row.text(f"caption_{caption}"), "image": row.fields.get(f"image_{image}"), "answer": caption == image}
                parts.append(Record(row.place, {**fields, "tag": row.fields.get("collapsed_tag") or row.fields.get("tag")}))
            yield row.text("id") or str(number), parts

    def sample_of(self, record: Record) -> Sample:
        """The sample of a part of a group."""
        image, content = record.image("image")
        caption = record.text("question")
        sample = self.make(
            record,
            question_id=f"{record.text('group')}-{record.text('part')}",
            image=image,
            image_content=content,
            question=f'Does this figure show "{caption}"?' if caption else "",
            answer=record.answer("answer"),
            category=record.text("tag") or None,
            instruction="{question} Please answer yes or no.",
        )
        return self.in_group(record, sample)
