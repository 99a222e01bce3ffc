"""MMBench: multiple choice with circular evaluation (Liu et al. 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import LETTERS, OFFICIAL, vlmevalkit_choice
from vseam_core.datasets.choices import asked_with, options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import Record
from vseam_core.errors import InvalidFileError, SampleError
from vseam_plugins.benchmarks.layouts import image_of, mean_or_none, with_shared_images

_COPY = 1_000_000
_INSTRUCTION = "{question}\nPlease select the correct answer from the options above."


class MmbenchBenchmark(FileBenchmark):
    """MMBench, from the authors' TSV files (images in base64) or the copies on the hub.

    A question stands in the file once for each order of its options: copies have the index of the question plus a multiple of a million.
    Of a file that holds each question once, `circular: true` makes the copies by turning the options round. The official figure is
    `circular_accuracy`: the share of questions of which every copy is answered right.
    """

    asks_options = True
    source_split = "dev"
    choice_rules = {**FileBenchmark.choice_rules, OFFICIAL: vlmevalkit_choice}  # noqa: RUF012
    question_files = ("mmbench/MMBench_DEV_EN.tsv", "mmbench/mmbench_dev_20230712.tsv", "mmbench/MMBench_DEV_EN_V11.tsv", "mmbench")
    image_places = ("mmbench/images",)
    obtain = "https://github.com/open-compass/MMBench"

    def __init__(self, circular: bool = False, **options: Any):
        if not isinstance(circular, bool):
            raise InvalidFileError(f"mmbench: option circular must be true or false, got {circular!r:.60}")
        super().__init__("mmbench", level="object", category="mmbench", **options)
        self._circular = circular

    def records(self) -> Iterator[Record]:
        """The rows of the file, the copies of a question after it."""
        groups: dict[int, list[Record]] = defaultdict(list)
        for record in with_shared_images(super().records()):
            groups[_index(record) % _COPY].append(record)
        turn = self._circular and all(len(rows) == 1 for rows in groups.values())
        for group, rows in groups.items():
            for record in _turned(rows[0]) if turn else rows:
                yield Record(record.place, {**record.fields, "group": group, "copies": _turns(rows[0]) if turn else len(rows)})

    def sample_of(self, record: Record) -> Sample:
        """The sample of a row."""
        options = options_of(record)
        hint = f"Hint: {record.text('hint')}\n" if record.text("hint") else ""
        image, content = image_of(record, "image", "image_path")
        return self.make(
            record,
            question_id=str(_index(record)),
            image=image,
            image_content=content,
            question=asked_with(f"{hint}Question: {record.text('question')}\nOptions:", options),
            answer=right_letter(record, record.fields.get("answer"), options),
            category=record.text("category") or None,
            options=options,
            instruction=_INSTRUCTION,
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """`circular_accuracy` over questions of which every copy was answered, `first_order_accuracy` over the questions as they stand."""
        marks: dict[tuple[int, str], list[bool]] = defaultdict(list)
        wanted: dict[tuple[int, str], int] = {}
        first = []
        for item in answered:
            key = (item.sample.metadata["group"], item.sample.image_id)
            right = self.judge(item.sample, item.text)
            marks[key].append(right)
            wanted[key] = item.sample.metadata["copies"]
            first += [right] if int(item.sample.metadata["index"]) < _COPY else []
        whole = [all(right) for key, right in marks.items() if len(right) == wanted[key]]
        figures = {"circular_accuracy": mean_or_none(whole), "first_order_accuracy": mean_or_none(first)}
        return {**super().metrics(answered), **figures} if answered else {}


def _index(record: Record) -> int:
    try:
        return int(record.text("index"))
    except (ValueError, SampleError):
        raise InvalidFileError(
            f"{record.place}: expected the number of the question as index, found {record.fields.get('index')!r:.60}"
        ) from None


def _letters(record: Record) -> list[str]:
    """The letters of the options that a row offers."""
    return [letter for letter in LETTERS if record.fields.get(letter) is not None]


def _turns(record: Record) -> int:
    return max(1, len(_letters(record)))


def _turned(record: Record) -> Iterator[Record]:
    """A question once for each turn of its options: after one turn, A's text stands at B and the last one's at A."""
    letters, gold = _letters(record), record.text("answer")
    for turn in range(_turns(record)):
        texts = {letters[(place + turn) % len(letters)]: record.fields[letter] for place, letter in enumerate(letters)}
        answer = letters[(letters.index(gold) + turn) % len(letters)] if gold in letters else gold
        yield Record(record.place, {**record.fields, **texts, "answer": answer, "index": _index(record) + turn * _COPY})
