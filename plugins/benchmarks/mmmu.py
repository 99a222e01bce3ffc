"""MMMU: college questions with figures, multiple choice and open (Yue et al. 2024); those with one image."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import LETTERS, OFFICIAL
from vseam_core.datasets.choices import options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import Record
from vseam_plugins.benchmarks.layouts import image_of, mean_or_none

_PLACE = re.compile(r"\s*<image \d+>\s*")
_CHOICE = "{question}\n\nAnswer with the option's letter from the given choices directly."
_OPEN = "{question}\n\nAnswer the question using a single word or phrase."
_SUBJECT = re.compile(r"(?:dev|validation|test)_(?P<subject>.+)_\d+")
# What comes before the part of an open answer that is compared; the equals sign only in its last sentence.
_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_WITH_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_PLAIN = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")
_MARKS = (",", ".", "!", "?", ";", ":", "'")
Part = str | float


def mmmu_letter(answer: str, options: Sequence[str]) -> str | None:
    """The letter that an answer means by MMMU's rule: the last "(B)", else the last " B ", else the last option whose text stands in it.

    Texts are looked for in answers of more than five words only. Where nothing is found the authors' script draws a letter; here: None.
    """
    for mark in _MARKS:
        answer = answer.strip(mark)
    text = f" {answer} "
    letters = LETTERS[: len(options)]
    for form in ("({})", " {} "):
        found = {text.rfind(form.format(letter)): letter for letter in letters if form.format(letter) in text}
        if found:
            return found[max(found)]
    if len(text.split()) <= 5:
        return None
    named = {
        text.lower().rfind(option.lower()): letter
        for letter, option in zip(letters, options, strict=True)
        if option.lower() in text.lower()
    }
    return named[max(named)] if named else None


def open_parts(answer: str) -> list[Part]:
    """What an open answer is held to say by MMMU's rule: the shortest text after a lead of each sentence, and every number in these."""
    text = answer.strip().strip(".").lower()
    sentences = re.split(r"\.\s(?=[A-Z])|\n", text)
    keys = []
    for number, sentence in enumerate(sentences, 1):
        leads = (*_LEADS, "=") if number == len(sentences) else _LEADS
        tails = [sentence.rsplit(lead, 1)[-1].strip() for lead in leads if lead in sentence]
        # An empty tail is passed over for the next one, as in the authors' script.
        shortest = ""
        for tail in tails:
            shortest = tail if not shortest or len(tail) < len(shortest) else shortest
        if shortest and shortest not in _MARKS:
            keys.append(shortest)
    keys = keys or [text]
    numbers = [found for key in keys for pattern in (_WITH_COMMAS, _SCIENTIFIC, _PLAIN) for found in pattern.findall(key)]
    return [part for key in (*keys, *numbers) for part in _parts(key)]


def says(answer: str, golds: Iterable[str]) -> bool:
    """Whether an open answer is right: a gold text stands in one of its parts, or a gold number is one of them (to two places)."""
    wanted = [part for gold in golds for part in _parts(gold)]
    found = open_parts(answer)
    texts = [part for part in found if isinstance(part, str)]
    return any(gold in text for gold in wanted if isinstance(gold, str) for text in texts) or any(
        gold in [part for part in found if not isinstance(part, str)] for gold in wanted if not isinstance(gold, str)
    )


def _parts(text: str) -> list[Part]:
    """A number to two places, else the text in small letters; one character stands alone only with a space beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        low = text.lower()
        return [f" {low}", f"{low} "] if len(low) == 1 else [low]


class MmmuBenchmark(FileBenchmark):
    """MMMU, from the authors' parquet files (a folder for each subject). A question about several images is skipped, with that reason.

    Where a question says `<image 1>`, the image stands where the model's family puts it. Options are asked, and answers read, as the
    authors' scripts do; a random letter is never drawn. `mean_of_subjects` is the mean over subjects.
    """

    asks_options = True
    source_split = "validation"
    choice_rules = {**FileBenchmark.choice_rules, OFFICIAL: mmmu_letter}  # noqa: RUF012
    question_files = ("mmmu", "MMMU")
    obtain = "https://mmmu-benchmark.github.io"

    def __init__(self, **options: Any):
        super().__init__("mmmu", level="object", category="mmmu", **options)

    def sample_of(self, record: Record) -> Sample:
        """The sample of a row."""
        subject = _SUBJECT.fullmatch(record.text("id"))
        image, content = image_of(record, "image_1")
        question = _PLACE.sub(" ", record.text("question")).strip()
        about: dict[str, Any] = {
            "question_id": record.text("id"),
            "image": image,
            "image_content": content,
            "category": subject["subject"] if subject else None,
        }
        if record.text("question_type") == "open":
            golds = _golds(record.text("answer"))
            sample = self.make(record, question=question, answer=golds[0] if golds else "", instruction=_OPEN, **about)
            return replace(sample, form="open", competitor=None, metadata={**sample.metadata, "golds": golds})
        options = options_of(record)
        asked = f"{question}\n\n" + "".join(f"({letter}) {option}\n" for letter, option in zip(LETTERS, options, strict=False))
        answer = right_letter(record, record.fields.get("answer"), options)
        sample = self.make(record, question=asked, answer=answer, options=options, instruction=_CHOICE, **about)
        return replace(sample, question=asked)

    def judge(self, sample: Sample, answer: str) -> bool:
        """By the authors' rule for each kind of question."""
        golds = sample.metadata.get("golds")
        return super().judge(sample, answer) if golds is None else says(answer, golds)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """`mean_of_subjects` beside the accuracy over all questions, and how many answers chose nothing."""
        marks: dict[str, list[bool]] = defaultdict(list)
        for item in answered:
            marks[item.sample.category].append(self.judge(item.sample, item.text))
        means = [sum(right) / len(right) for right in marks.values()]
        return {**super().metrics(answered), "mean_of_subjects": mean_or_none(means)} if answered else {}


def _golds(text: str) -> tuple[str, ...]:
    """The right answers of an open question: one, or a list as Python text."""
    if text.startswith("["):
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return (text,)
        return tuple(str(value) for value in values) if isinstance(values, list) else (text,)
    return (text,) if text else ()
