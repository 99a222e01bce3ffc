"""Benchmarks that are read from files: where the files are, pools that share no picture, unique identifiers, yes/no answers."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Form, Level, Pool, PoolChoice, RoleSpan, Sample, SceneObject
from vseam_core.datasets.answers import other_word
from vseam_core.datasets.images import BytesImage, ImageFolders, MissingImage, image_folders
from vseam_core.datasets.records import Record, read_records
from vseam_core.errors import InvalidFileError, SampleError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from vseam_core.api.types import ImageSource

DATA_VARIABLE = "VSEAM_DATA"
# Shares of the pools in 20ths. Half of the pictures score heads and are traced, a fifth chooses settings, the rest is reported on.
_POOL_OF_TWENTIETH: tuple[Pool, ...] = ("score",) * 10 + ("choose",) * 4 + ("test",) * 6


def pool_of(image_id: str) -> Pool:
    """The pool of a picture: by a hash of its name alone, so that all datasets on one set of pictures agree."""
    return _POOL_OF_TWENTIETH[int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big") % 20]


class FileBenchmark(Benchmark):
    """A benchmark whose questions stand in a file.

    `questions` is the file (or, where a release has several, a folder), `images` a folder of pictures or several. What is not given is
    looked for below the folder that VSEAM_DATA names (or `data`), in the places that `question_files` and `image_places` list. `dedup`
    leaves out later records with the same picture and question. A subclass turns one record into one sample by `sample_of`.
    """

    question_files: Sequence[str] = ()
    image_places: Sequence[str] = ()
    obtain: str = "see its authors' page"

    def __init__(
        self,
        name: str,
        *,
        questions: str | Path | None = None,
        images: str | Path | Sequence[str | Path] | None = None,
        level: Level = "object",
        category: str = "",
        dedup: bool = False,
    ):
        self.name, self.level, self.category = name, level, category or name.split("/")[-1]
        self._questions, self._images, self._dedup = questions, images, dedup

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
        """Exact match, whatever the case, without white space around it and a full stop at the end."""
        return answer.strip().rstrip(".").strip().lower() == sample.answer.strip().lower()

    def records(self) -> Iterator[Record]:
        """The records of the question file. Raises `InvalidFileError` where it is missing or cannot be understood."""
        return read_records(self.question_path())

    def question_path(self) -> Path:
        """The question file. Raises `InvalidFileError` that says where it was looked for and how to get it."""
        return find_file(self.name, "questions", self._questions, self.question_files, self.obtain)

    @property
    def pictures(self) -> ImageFolders:
        """The folders of pictures: those given, else those that are there."""
        if self._folders is None:
            given = self._images
            if given is None:
                given = [path for place in self.image_places if (path := data_folder() / place).is_dir()]
            self._folders = image_folders(given)
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
    ) -> Sample:
        """A sample from the parts of a record. `image_content` is the picture itself where the record carries it (bytes)."""
        for what, text in (("question", question), ("answer", answer), ("picture", image)):
            if not text.strip():
                raise SampleError(f"{record.place}: the {what} is empty")
        competitor = other_word(answer)
        image_id = image.rsplit(".", 1)[0] if image.lower().endswith((".jpg", ".png", ".jpeg", ".webp")) else image
        form: Form = "open" if competitor is None else "yes_no"
        source: ImageSource = BytesImage(image_content, image) if image_content is not None else self.pictures.find(image)
        return Sample(
            identifier=f"{self.name}/plain/{question_id}",
            dataset=self.name,
            question_id=question_id,
            image_id=image_id,
            image=source,
            question=question.strip(),
            answer=answer.strip(),
            competitor=competitor,
            level=level or self.level,  # type: ignore[arg-type]
            category=category or self.category,
            pool=pool_of(image_id),
            form=form,
            roles=tuple(roles),
            objects=tuple(objects),
            metadata={"place": record.place, **record.fields},
        )

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

    def _unusable(self, record: Record, number: int, reason: str) -> Sample:
        """A record that no sample can be made of: it is yielded all the same, and its picture says why it cannot be used."""
        return Sample(
            identifier=f"{self.name}/plain/unusable-{number}",
            dataset=self.name,
            question_id=f"unusable-{number}",
            image_id=f"{self.name}/unusable-{number}",
            image=MissingImage(reason),
            question=record.text("question"),
            answer="",
            competitor=None,
            level=self.level,  # type: ignore[arg-type]
            category=self.category,
            pool=pool_of(f"{self.name}/unusable-{number}"),
            form="open",
            metadata={"place": record.place, "problem": reason, **record.fields},
        )


def data_folder() -> Path:
    """The folder below which datasets are looked for: VSEAM_DATA, else `data` in the working directory."""
    return Path(os.environ.get(DATA_VARIABLE) or "data").expanduser()


def find_file(dataset: str, option: str, given: str | Path | None, places: Sequence[str], obtain: str) -> Path:
    """A file of a dataset: the one given, else the first of `places` below the data folder that exists. Raises `InvalidFileError`."""
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
