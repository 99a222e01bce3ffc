"""CHAIR: which objects a caption of a COCO image makes up (Rohrbach et al. 2018)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.file_benchmark import FileBenchmark, find_file
from vseam_core.datasets.records import Record, lines_of, text_of
from vseam_core.errors import InvalidFileError
from vseam_core.files import parse_json

_TOKEN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*|[^\w\s]")
_PAIRS = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light", "fire hydrant"),
    *("stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove", "tennis racket", "wine glass"),
    *("hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier", "potted plant", "laptop computer", "home plate"),
)
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
# Two words that mean one thing; "baby bird" names no person, "passenger train" neither.
_AS_ONE: Mapping[str, str] = {
    **{pair: pair for pair in _PAIRS},
    **{f"{word} {animal}": animal for animal in _ANIMALS for word in ("baby", "adult")},
    **{f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")},
    "bow tie": "tie",
    "toilet seat": "toilet",
}
INSTRUCTION = "{question}"


class ChairBenchmark(FileBenchmark):
    """Captions of COCO images, judged by CHAIR: the objects that they name against those that are there.

    `questions` is COCO's captions file (captions_val2014.json), `instances` its file of objects, `synonyms` the authors' list
    (synonyms.txt: a line for each of the 80 objects, its own name first), which is not part of vseam. What is there is what the
    instances and the reference captions name. A caption is right where it names objects and makes none up; `chair_s` is the share of
    captions that make some up, `chair_i` the share of made-up objects among those that are named, `recall` the share of the objects there
    that are named.

    Words are made singular by the package inflect (the authors' pattern.en runs on Python 2); words of the list stay as they are.
    """

    question_files = ("coco/annotations/captions_val2014.json", "chair/captions_val2014.json")
    image_places = ("coco/val2014",)
    obtain = "https://cocodataset.org (captions and instances), https://github.com/LisaAnne/Hallucination (synonyms.txt)"

    def __init__(
        self,
        instances: str | Path | None = None,
        synonyms: str | Path | None = None,
        prompt: str = "Please describe this image in detail.",
        **options: Any,
    ):
        super().__init__("chair", level="object", category="chair", **options)
        self._instances, self._synonyms, self._prompt = instances, synonyms, prompt

    @cached_property
    def object_of(self) -> Mapping[str, str]:
        """The COCO object that each word of the authors' list means. Raises `InvalidFileError` where the list is missing."""
        path = find_file(self.name, "synonyms", self._synonyms, ("chair/synonyms.txt", "coco/synonyms.txt"), self.obtain)
        groups = [[word.strip().lower() for word in line.split(",") if word.strip()] for line in lines_of(text_of(path)) if line.strip()]
        if not groups or any(len(group[0]) > 40 for group in groups):
            raise InvalidFileError(f"{path}: expected a line of words with commas between them for each object")
        return {word: group[0] for group in groups for word in group}

    @cached_property
    def _there(self) -> Mapping[str, frozenset[str]]:
        """The objects that COCO's instances name in each image, by its number."""
        places = ("coco/annotations/instances_val2014.json", "chair/instances_val2014.json")
        path = find_file(self.name, "instances", self._instances, places, self.obtain)
        try:
            content = parse_json(text_of(path))
            names = {one["id"]: str(one["name"]).lower() for one in content["categories"]}
            found: dict[str, set[str]] = defaultdict(set)
            for one in content["annotations"]:
                name = names[one["category_id"]]
                found[str(one["image_id"])].add(self.object_of.get(name, name))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidFileError(f"{path}: expected COCO's instances (categories and annotations): {error!r:.80}") from None
        return {image: frozenset(objects) for image, objects in found.items()}

    def records(self) -> Iterator[Record]:
        """One record for each image: its reference captions together, in the order of the file."""
        captions: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for record in self._captions():
            number = record.text("image_id")
            captions.setdefault(number, []).append(record.text("caption"))
        path = self.question_path()
        for image in _objects(path, "images"):
            names[str(image.get("id"))] = str(image.get("file_name") or "")
        for number, texts in captions.items():
            fields = {"image_id": number, "captions": texts, "file_name": names.get(number) or f"COCO_val2014_{int(number):012d}.jpg"}
            yield Record(f"{path.name}, image {number}", fields)

    def _captions(self) -> Iterator[Record]:
        path = self.question_path()
        for index, fields in enumerate(_objects(path, "annotations"), 1):
            yield Record(f"{path.name}, annotation {index}", fields)

    def sample_of(self, record: Record) -> Sample:
        """The sample of an image: it is to be described."""
        texts = [str(text) for text in record.items("captions")]
        there = self._there.get(record.text("image_id"), frozenset()) | {name for text in texts for name in self.named(text)}
        sample = self.make(
            record,
            question_id=record.text("image_id"),
            image=record.text("file_name"),
            question=self._prompt,
            answer=next(text for text in (*texts, "a caption") if text.strip()),
            instruction=INSTRUCTION,
        )
        return replace(sample, form="open", competitor=None, metadata={**sample.metadata, "objects": tuple(sorted(there))})

    def named(self, caption: str) -> list[str]:
        """The COCO objects that a caption names, one for each mention, in order."""
        kept = {part for word in self.object_of for part in word.split()}
        words = [word if word in kept else singular(word) for word in _TOKEN.findall(caption.lower())]
        joined, at = [], 0
        while at < len(words):
            pair = " ".join(words[at : at + 2])
            joined.append(_AS_ONE.get(pair, words[at]))
            at += 2 if pair in _AS_ONE else 1
        if "toilet" in joined:
            joined = [word for word in joined if word != "seat"]
        return [self.object_of[word] for word in joined if word in self.object_of]

    def made_up(self, sample: Sample, caption: str) -> list[str]:
        """The objects that a caption names and the image does not hold, one for each mention."""
        return [name for name in self.named(caption) if name not in sample.metadata["objects"]]

    def judge(self, sample: Sample, answer: str) -> bool:
        """Whether a caption names something, and makes nothing up."""
        return bool(self.named(answer)) and not self.made_up(sample, answer)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """CHAIRs, CHAIRi, and how much of what is there is named."""
        if not answered:
            return {}
        named = [self.named(item.text) for item in answered]
        made_up = [self.made_up(item.sample, item.text) for item in answered]
        there = [set(item.sample.metadata["objects"]) for item in answered]
        mentions = sum(map(len, named))
        found, all_there = sum(len(set(one) & held) for one, held in zip(named, there, strict=True)), sum(map(len, there))
        return {
            "chair_s": sum(map(bool, made_up)) / len(answered),
            "chair_i": sum(map(len, made_up)) / mentions if mentions else None,
            "recall": found / all_there if all_there else None,
            "objects_per_caption": mentions / len(answered),
        }


@lru_cache(maxsize=65_536)
def singular(word: str) -> str:
    """A noun in the singular, as the package inflect makes it."""
    return str(_engine().singular_noun(word) or word) if word.isalpha() and len(word) > 2 else word


@lru_cache(maxsize=1)
def _engine() -> Any:
    import inflect

    return inflect.engine()


def _objects(path: Path, name: str) -> list[Mapping[str, Any]]:
    """A list of objects in one of COCO's files. Raises `InvalidFileError` for another file."""
    try:
        found = parse_json(text_of(path))[name]
    except (ValueError, KeyError, TypeError):
        raise InvalidFileError(f"{path}: expected COCO's captions (images and annotations)") from None
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise InvalidFileError(f"{path}: {name}: expected a list of objects")
    return found
