"""GQA: the official question files, and the seven subsets that V-SEAM published (Hudson & Manning 2019; Wang et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vseam_core.api.types import Answered, Box, Level, RoleSpan, Sample, SceneObject
from vseam_core.datasets.file_benchmark import FileBenchmark, find_file, spans_of
from vseam_core.datasets.records import Record, as_mapping
from vseam_core.errors import InvalidFileError, SampleError
from vseam_core.files import parse_json, read_bytes

LEVELS: Mapping[str, Level] = {
    "animal": "object", "indoor": "object", "vehicle": "object", "color": "attribute", "material": "attribute", "action": "relation",
    "spatial": "relation",
}  # fmt: skip
_LEVEL_OF_SEMANTIC: Mapping[str, Level] = {"attr": "attribute", "rel": "relation"}
_OBTAIN = "https://cs.stanford.edu/people/dorarad/gqa/download.html (questions and images)"


class GqaBenchmark(FileBenchmark):
    """Questions of GQA.

    `subset` names one of the seven published subsets (its level and category are those of the paper); without it `questions` is an
    official file. `scene_graphs` is an official scene graph file: the things that a question is about then carry their attributes and
    relations. Answers are judged as LLaVA's evaluation does: exact match in lower case without a full stop at the end.
    """

    image_places = ("gqa/images", "images/gqa", "gqa/clean")
    obtain = _OBTAIN

    def __init__(self, subset: str | None = None, scene_graphs: str | Path | None = None, **options: Any):
        if subset is not None and subset not in LEVELS:
            raise InvalidFileError(f"gqa: unknown subset {subset!r}; expected one of {', '.join(LEVELS)}")
        name = f"gqa/{subset}" if subset else "gqa"
        super().__init__(name, level=LEVELS[subset] if subset else "object", category=subset or "gqa", **options)
        self.subset, self._graph_file = subset, scene_graphs
        if subset:
            title = subset.capitalize()
            place = f"{LEVELS[subset].capitalize()}_Level/{title}/{title}.json"
            self.question_files = (f"gqa/{subset}.json", f"gqa/{title}.json", f"gqa/{place}", f"GQA/{place}")
            self.obtain = "the V-SEAM authors' repository (GQA subsets); images: GQA's page"
        else:
            self.question_files = ("gqa/testdev_balanced_questions.json", "gqa/val_balanced_questions.json")

    def sample_of(self, record: Record) -> Sample:
        """The sample of an official or a published record."""
        question, semantic = record.text("question"), _semantic(record)
        objects = self._objects(record, question)
        image, content = record.image(*_IMAGE)
        return self.make(
            record,
            question_id=record.text("question_id", "id"),
            image=image,
            image_content=content,
            question=question,
            answer=record.answer("answer", yes_no=self.subset is not None),
            roles=self._roles(question, [thing.name for thing in objects] or _names(record)),
            objects=objects,
            level=self.level if self.subset else _LEVEL_OF_SEMANTIC.get(semantic, "object"),  # type: ignore[arg-type]
            category=self.subset or semantic or "gqa",
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Consistency: over right answers with entailed questions among those answered, how many of these are right too, on average.

        None where no entailed question was asked. Validity and plausibility need the official choices file and are None.
        """
        right = {item.sample.question_id: self.judge(item.sample, item.text) for item in answered}
        shares = []
        for item in answered:
            entailed = [one for one in item.sample.metadata.get("entailed") or () if one != item.sample.question_id and one in right]
            if right[item.sample.question_id] and entailed:
                shares.append(sum(right[one] for one in entailed) / len(entailed))
        return {"consistency": sum(shares) / len(shares) if shares else None, "validity": None, "plausibility": None}

    def _objects(self, record: Record, question: str) -> tuple[SceneObject, ...]:
        """The things that the question names, with their boxes, in the question's order.

        Where a published record has fewer boxes than names, nobody can say which is whose, and it has none.
        """
        positions = record.items("object_positions")
        names = _names(record)
        if not positions:
            return self._annotated(record)
        if len(positions) != len(names):
            return ()
        known = {thing.box: thing for thing in self._annotated(record)}
        things = []
        for name, position in zip(names, positions, strict=True):
            box = _box(position, record)
            found = known.get(box)
            things.append(SceneObject(name, box, found.attributes, found.relations, found.identifier) if found else SceneObject(name, box))
        text = question.lower()
        return tuple(sorted(things, key=lambda thing: text.find(thing.name.lower()) % (len(text) + 1)))

    def _annotated(self, record: Record) -> tuple[SceneObject, ...]:
        """The things that the official annotation of the question points at, from the scene graph."""
        if not self._graphs:
            return ()
        image = record.image(*_IMAGE)[0]
        where = f"scene graph of {image}"
        graph = as_mapping(as_mapping(self._graphs.get(image), where).get("objects"), f"{where}: objects")
        annotations = record.mapping("annotations")
        parts = [as_mapping(annotations.get(part), f"{record.place}: annotations: {part}") for part in ("question", "answer", "fullAnswer")]
        pointed = [str(thing) for part in parts for thing in part.values()]
        things = []
        for identifier in dict.fromkeys(pointed):
            if identifier in graph:
                things.append(_thing(as_mapping(graph[identifier], f"{where}: {identifier}"), identifier, record))
        return tuple(things)

    @cached_property
    def _graphs(self) -> Mapping[str, Any]:
        if self._graph_file is None:
            return {}
        path = find_file(self.name, "scene_graphs", self._graph_file, (), _OBTAIN)
        try:
            graphs = parse_json(read_bytes(path))
        except ValueError as error:
            raise InvalidFileError(f"{path}: not a readable scene graph file: {error}") from None
        if not isinstance(graphs, dict):
            raise InvalidFileError(f"{path}: expected a dictionary of scene graphs by image")
        return graphs

    def _roles(self, question: str, names: Sequence[str]) -> tuple[RoleSpan, ...]:
        wanted = [(name, "object") for name in names]
        last = question.rstrip("? .").split(" ")[-1]
        if self.subset in ("color", "material"):
            wanted.append((last, "attribute"))
        spans = spans_of(question, *wanted)
        if self.subset in ("action", "spatial") and len(spans) >= 2:
            first, second = sorted(spans)[:2]
            between = question[first.end : second.start]
            words = between.strip().removesuffix(" the").removesuffix(" a").removesuffix(" an").strip()
            if words:
                start = question.index(words, first.end)
                role = "action" if self.subset == "action" else "relation"
                spans = (*spans, RoleSpan(start, start + len(words), role))
        return spans


_IMAGE = ("imageId", "image_id", "image")


def _names(record: Record) -> list[str]:
    return [str(name) for name in record.items("involved_objects") or record.items("relevant_objects")]


def _semantic(record: Record) -> str:
    """GQA's semantic type of a question ("attr", "rel" …); some copies keep it alone in `types`."""
    types = record.fields.get("types")
    return types.strip() if isinstance(types, str) else str(record.mapping("types").get("semantic") or "")


def _thing(thing: Mapping[str, Any], identifier: str, record: Record) -> SceneObject:
    """One object of a scene graph. Raises `SampleError` where it lacks what an object has."""
    try:
        relations = tuple((str(one["name"]), str(one["object"])) for one in thing.get("relations") or ())
        attributes = tuple(map(str, thing.get("attributes") or ()))
        return SceneObject(str(thing["name"]), _box(thing, record), attributes, relations, identifier)
    except (KeyError, TypeError):
        where = f"{record.place}: scene graph object {identifier}"
        raise SampleError(f"{where}: expected a name, a box and lists, found {thing!r:.80}") from None


def _box(position: Mapping[str, Any], record: Record) -> Box:
    """A box from x, y, width, height. Raises `SampleError` for anything else."""
    try:
        x, y, width, height = (float(position[name]) for name in ("x", "y", "w", "h"))
    except (KeyError, TypeError, ValueError):
        raise SampleError(f"{record.place}: object_positions: expected x, y, w and h, found {position!r}") from None
    return (x, y, x + width, y + height)
