"""Benchmarks that are read from files: where the files are, pools that share no image, unique identifiers, yes/no answers."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Form, Level, Pool, PoolChoice, RoleSpan, Sample, SceneObject
from vseam_core.datasets.answer_rules import CHOICE_RULES, LETTERS, OFFICIAL, YES_NO_RULES, ChoiceRule, YesNoRule
from vseam_core.datasets.answers import normal_answer, other_word
from vseam_core.datasets.choices import INSTRUCTION, asked_with, options_column
from vseam_core.datasets.hub_files import hub_path, is_hub_name
from vseam_core.datasets.images import BytesImage, ImageFolders, MissingImage, image_folders, without_suffix
from vseam_core.datasets.records import Record, read_records
from vseam_core.errors import InvalidFileError, SampleError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from vseam_core.api.types import ImageSource

DATA_VARIABLE = "VSEAM_DATA"
# Shares of the pools in 20ths. Half of the images score heads and are traced, a fifth chooses settings, the rest is reported on.
_POOL_OF_TWENTIETH: tuple[Pool, ...] = ("score",) * 10 + ("choose",) * 4 + ("test",) * 6


def pool_of(image_id: str) -> Pool:
    """The pool of an image: by a hash of its name alone, so that all datasets on one set of images agree."""
    return _POOL_OF_TWENTIETH[int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big") % 20]


class FileBenchmark(Benchmark):
    """A benchmark whose questions stand in a file.

    `questions` is the file (or, where a release has several, a folder, or `hub:OWNER/NAME`), `images` a folder of images or
    several. What is not given is looked for below the folder that VSEAM_DATA names (or `data`), in the places that `question_files` and
    `image_places` list.
    `source_split` is the split that is read of a folder of several, as Hugging Face `datasets` writes it. `dedup`
    leaves out later records with the same image and question. A subclass turns one record into one sample by `sample_of`.

    `judge` names the rule that reads answers: the benchmark's own (`official`), or another of `yes_no_rules` and `choice_rules`. What is
    neither a yes/no question nor multiple choice has the official rule only.
    """

    question_files: Sequence[str] = ()
    image_places: Sequence[str] = ()
    obtain: str = "see its authors' page"
    asks_options: bool = False
    source_split: str = ""
    yes_no_rules: ClassVar[Mapping[str, YesNoRule]] = YES_NO_RULES
    choice_rules: ClassVar[Mapping[str, ChoiceRule]] = CHOICE_RULES

    def __init__(
        self,
        name: str,
        *,
        questions: str | Path | None = None,
        images: str | Path | Sequence[str | Path] | None = None,
        level: Level = "object",
        category: str = "",
        dedup: bool = False,
        judge: str = OFFICIAL,
        source_split: str = "",
        **unknown: Any,
    ):
        if unknown:
            known = _option_names(type(self))
            raise UnknownNameError(f"dataset {name!r}: unknown option {min(unknown)!r}; {did_you_mean(min(unknown), known)}")
        self._source_split = source_split or self.source_split
        self.name, self.level, self.category = name, level, category or name.split("/")[-1]
        self._questions, self._images, self._dedup, self._rule = questions, images, dedup, self._known_rule(name, judge)

    @abstractmethod
    def sample_of(self, record: Record) -> Sample:
        """The sample of a record, made by `make`. Raises `SampleError` for a record that cannot be used."""

    def splits(self) -> tuple[str, ...]:
        """One split: what the files hold."""
        return ("plain",)

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """Samples in the order of the file. The order does not depend on the seed."""
        if split not in self.splits():
            raise UnknownNameError(f"{self.name}: unknown split {split!r}; {did_you_mean(split, self.splits())}")
        chosen = (sample for sample in self._all() if pool == "all" or sample.pool == pool)
        yield from itertools.islice(chosen, limit)

    def judge(self, sample: Sample, answer: str) -> bool:
        """Whether the right option is chosen; else exact match, whatever the case, without full stops at the end of either side."""
        if sample.options:
            return self.chosen(sample, answer) == sample.answer
        if sample.form == "yes_no" and self._rule in self.yes_no_rules:
            return self.yes_no_rules[self._rule](answer) == normal_answer(sample.answer)
        return normal_answer(answer) == normal_answer(sample.answer)

    def chosen(self, sample: Sample, answer: str) -> str | None:
        """The letter that an answer to a multiple choice question means, by the rule that judges; None where it means none."""
        rule = self.choice_rules.get(self._rule, self.choice_rules[OFFICIAL])
        return rule(answer, sample.metadata["options"])

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Of multiple choice questions, how many answers chose none of the options."""
        choices = [item for item in answered if item.sample.options]
        return {"unparsed": float(sum(self.chosen(item.sample, item.text) is None for item in choices))} if choices else {}

    def _known_rule(self, name: str, rule: Any) -> str:
        """The rule of that name. Raises `UnknownNameError` for one that the benchmark does not have."""
        known = sorted({OFFICIAL, *self.yes_no_rules, *self.choice_rules})
        if rule not in known:
            raise UnknownNameError(f"dataset {name!r}: unknown rule {rule!r:.60} of judge; {did_you_mean(str(rule), known)}")
        return str(rule)

    def records(self) -> Iterator[Record]:
        """The records of the question file. Raises `InvalidFileError` where it is missing or cannot be understood."""
        return read_records(self.question_path(), self._source_split)

    def question_path(self) -> Path:
        """The question file. Raises `InvalidFileError` that says where it was looked for and how to get it."""
        return find_file(self.name, "questions", self._questions, self.question_files, self.obtain)

    def where(self) -> str:
        """Where the questions stand, for messages."""
        return str(self.question_path())

    @property
    def images(self) -> ImageFolders:
        """The folders of images: those given, else those that are there; then the question file's own."""
        if self._folders is None:
            path = self.question_path()
            found = image_folders(self._images, beside=path if path.is_dir() else path.parent)
            if self._images is None:
                places = tuple(place for name in self.image_places if (place := data_folder() / name).is_dir())
                found = replace(found, folders=places)
            self._folders = found
        return self._folders

    _folders: ImageFolders | None = None

    def make(
        self,
        record: Record,
        *,
        question_id: str,
        image: str,
        question: str,
        answer: str,
        roles: Sequence[RoleSpan] = (),
        objects: Sequence[SceneObject] = (),
        level: Level | None = None,
        category: str | None = None,
        image_content: Any = None,
        options: Sequence[str] = (),
        instruction: str = "",
    ) -> Sample:
        """A sample from the parts of a record. `image_content` is the image itself where the record carries it (bytes).

        `options` are the texts of a multiple choice question, asked below it unless `instruction` says how they are asked; its `answer` is
        a letter.

        Raises `SampleError` for a part that is empty, and for a multiple choice record where the benchmark does not ask its options.
        """
        self._check_parts(record, options, question=question, answer=answer, image=image)
        competitor = _other_letter(answer.strip(), options) if options else other_word(answer)
        if options and not instruction:
            question, instruction = asked_with(question.strip(), options), INSTRUCTION
        image_id = without_suffix(image)
        form: Form = "open" if options or competitor is None else "yes_no"
        return Sample(
            identifier=f"{self.name}/plain/{question_id}",
            dataset=self.name,
            question_id=question_id,
            image_id=image_id,
            image=self.image_source(image, image_content),
            question=question.strip(),
            answer=answer.strip(),
            competitor=competitor,
            level=level or self.level,  # type: ignore[arg-type]
            category=category or self.category,
            pool=pool_of(image_id),
            form=form,
            roles=tuple(roles),
            objects=tuple(objects),
            metadata={"place": record.place, **record.without_images(), **({"options": tuple(options)} if options else {})},
            instruction=instruction,
            options=tuple(LETTERS[: len(options)]),
        )

    def _check_parts(self, record: Record, options: Sequence[str], **texts: str) -> None:
        for what, text in texts.items():
            if not text.strip():
                raise SampleError(f"{record.place}: the {what} is empty")
        if not self.asks_options and (column := options_column(record)):
            raise SampleError(f"{record.place}: a multiple choice record ({column}); the dataset `table` asks the options too")
        answer = texts["answer"]
        if options and answer.strip() not in list(LETTERS[: len(options)]):
            raise SampleError(f"{record.place}: the gold answer {answer!r:.60} is none of the letters of {len(options)} options")

    def image_source(self, name: str, content: bytes | None = None) -> ImageSource:
        """Where an image comes from: its bytes where a record carries them, else the file of that name."""
        return BytesImage(content, name) if content is not None else self.images.find(name)

    def _all(self) -> Iterator[Sample]:
        seen: dict[str, int] = {}
        asked: set[tuple[str, str]] = set()
        for number, record in enumerate(self.records(), 1):
            try:
                sample = self.sample_of(record)
            except SampleError as error:
                sample = self._unusable(record, number, str(error))
            if self._dedup and (sample.image_id, sample.question) in asked:
                continue
            asked.add((sample.image_id, sample.question))
            count = seen[sample.identifier] = seen.get(sample.identifier, 0) + 1
            # Some files repeat an identifier: each record stays a sample of its own.
            yield sample if count == 1 else replace(sample, identifier=f"{sample.identifier}~{count}")
        if not seen:
            raise InvalidFileError(f"{self.where()}: no question in it; expected at least one record")

    def _unusable(self, record: Record, number: int, reason: str) -> Sample:
        """A record that no sample can be made of: it is yielded all the same, and its image says why it cannot be used."""
        return Sample(
            identifier=f"{self.name}/plain/unusable-{number}",
            dataset=self.name,
            question_id=f"unusable-{number}",
            image_id=f"{self.name}/unusable-{number}",
            image=MissingImage(reason),
            question=str(record.fields.get("question") or "").encode("utf-8", "replace").decode("utf-8"),
            answer="",
            competitor=None,
            level=self.level,  # type: ignore[arg-type]
            category=self.category,
            pool=pool_of(f"{self.name}/unusable-{number}"),
            form="open",
            metadata={"place": record.place, "problem": reason, **record.without_images()},
        )


def _other_letter(letter: str, options: Sequence[str]) -> str | None:
    """The other of two options; of more there is no one competitor."""
    return LETTERS[1 - LETTERS.index(letter)] if len(options) == 2 else None


def _option_names(kind: type[FileBenchmark]) -> list[str]:
    """The options that a benchmark's constructors take by name."""
    found = {
        name
        for each in kind.__mro__
        if issubclass(each, FileBenchmark)
        for name, parameter in inspect.signature(each.__init__).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    return sorted(found - {"self", "name", "subset", "split"})


def data_folder() -> Path:
    """The folder below which datasets are looked for: VSEAM_DATA, else `data` in the working directory."""
    return Path(os.environ.get(DATA_VARIABLE) or "data").expanduser()


def find_file(dataset: str, option: str, given: str | Path | None, places: Sequence[str], obtain: str) -> Path:
    """A file of a dataset: the one given (a path, or a name of the hub), else the first of `places` below the data folder that exists.

    Raises `InvalidFileError`, and what `hub_path` raises.
    """
    if is_hub_name(given):
        return hub_path(dataset, given)
    if given is not None:
        path = Path(given).expanduser()
        if not path.exists():
            raise InvalidFileError(f"dataset {dataset!r}: {option}: no file at {path}")
        return path
    root = data_folder()
    for place in places:
        if (root / place).exists():
            return root / place
    tried = f"looked for {', '.join(str(root / place) for place in places)}; " if places else ""
    raise InvalidFileError(
        f"dataset {dataset!r}: its {option} file is not there; {tried}set {DATA_VARIABLE}, or `options: {{{option}: FILE}}` in "
        f"registry.yaml; to get it: {obtain}"
    )


def spans_of(question: str, *wanted: tuple[str, str]) -> tuple[RoleSpan, ...]:
    """Where words stand in a question, as (word, role): the first whole-word match of each, plural endings included."""
    spans: list[RoleSpan] = []
    for word, role in wanted:
        found = re.search(rf"\b{re.escape(word)}(?:e?s)?\b", question, re.IGNORECASE) if word.strip() else None
        if found and not any(found.start() < span.end and span.start < found.end() for span in spans):
            spans.append(RoleSpan(found.start(), found.end(), role))
    return tuple(spans)
