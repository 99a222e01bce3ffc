"""What'sUp: where one thing is to another, on photographs of the same two things in four places (Kamath et al. 2023)."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import LETTERS
from vseam_core.datasets.choices import INSTRUCTION, asked_with, options_of
from vseam_core.datasets.file_benchmark import FileBenchmark, pool_of
from vseam_core.datasets.records import Record
from vseam_core.errors import InvalidFileError, SampleError
from vseam_plugins.benchmarks.layouts import mean_or_none

_FILES = {"a": ("controlled_images_dataset.json", "controlled_images"), "b": ("controlled_clevr_dataset.json", "controlled_clevr")}
# Which of a set's four images are pairs; the second word of an image's name says where the thing is.
_OPPOSITE = {"left": "right", "right": "left", "on": "under", "under": "on", "in-front": "behind", "behind": "in-front"}
_NAME = re.compile(r"(?P<thing>[^_]+)_(?P<place>[^_]+)_.*?(?P<other>[^_]+)")


class WhatsUpBenchmark(FileBenchmark):
    """What'sUp's controlled images, subset a (on and under furniture) or b (on a table, before and behind).

    In the authors' file the first of four captions is the right one: here they are asked in an order drawn by a hash, after letters.
    The images of a set of two things count as one (`image_id`). Figures are the authors': `pair_accuracy` of opposite places and
    `set_accuracy` of all four, over pairs and sets that were asked whole.
    """

    asks_options = True
    obtain = "https://github.com/amitakamath/whatsup_vlms"

    def __init__(self, subset: str, **options: Any):
        if subset not in _FILES:
            raise InvalidFileError(f"whatsup: unknown subset {subset!r}; expected one of {', '.join(_FILES)}")
        super().__init__(f"whatsup/{subset}", level="relation", category="spatial", **options)
        questions, images = _FILES[subset]
        self.question_files, self.image_places = (f"whatsup/{questions}",), (f"whatsup/{images}",)

    def sample_of(self, record: Record) -> Sample:
        """The sample of an image with its four captions."""
        image = PurePosixPath(record.text("image_path")).name
        found = _NAME.fullmatch(PurePosixPath(image).stem)
        if found is None or found["place"] not in _OPPOSITE:
            raise SampleError(f"{record.place}: expected the name of an image as thing_place_thing, found {image!r:.60}")
        captions = options_of(Record(record.place, {"options": record.fields.get("caption_options")}))
        if not captions:
            raise SampleError(f"{record.place}: no captions (caption_options)")
        order = sorted(captions, key=lambda caption: hashlib.sha256(f"{image}\n{caption}".encode()).digest())
        sample = self.make(
            record,
            question_id=PurePosixPath(image).stem,
            image=image,
            question=asked_with("Which caption describes the image?", order),
            answer=LETTERS[order.index(captions[0])],
            category=found["place"],
            options=order,
            instruction=INSTRUCTION,
        )
        group = f"{self.name}/{found['thing']}-{found['other']}"
        metadata = {**sample.metadata, "image_name": sample.image_id}
        return replace(sample, image_id=group, pool=pool_of(group), metadata=metadata)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Accuracy of pairs and sets."""
        marks: dict[str, dict[str, bool]] = defaultdict(dict)
        for item in answered:
            marks[item.sample.image_id][item.sample.category] = self.judge(item.sample, item.text)
        pairs = [
            right and places[_OPPOSITE[place]]
            for places in marks.values()
            for place, right in places.items()
            if _OPPOSITE[place] in places and place < _OPPOSITE[place]
        ]
        sets = [all(places.values()) for places in marks.values() if len(places) == 4]
        figures = {"pair_accuracy": mean_or_none(pairs), "set_accuracy": mean_or_none(sets)}
        return {**super().metrics(answered), **figures} if answered else {}
