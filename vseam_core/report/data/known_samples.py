"""The samples, pairs, answers and prompts of a page: each once, referred to by its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, select

from vseam_core.analysis.frames import frame_records
from vseam_core.report.data.page_data import PageData
from vseam_core.store import schema
from vseam_core.store.currency import is_current
from vseam_core.store.shared_rows import chunks
from vseam_core.store.store import Store
from vseam_core.store.thumbnails import read_thumbnails

if TYPE_CHECKING:
    import pandas as pd

PAGE_BYTES = 4_780_000
"""Of a page's data: with its script and style it stays below 5 MB. Images get what everything else leaves of it."""
LEAST_FOR_IMAGES = 500_000
"""Where everything else leaves less."""
_COLUMNS = ("identifier", "dataset", "question", "answer", "pool", "thumbnail", "image_width", "image_height")


@dataclass(eq=False)
class KnownSamples:
    """The samples and pairs that a page names, put into its data as they are first asked for."""

    page: PageData
    store: Store
    _places: dict[str, int] = field(default_factory=dict)
    _pairs: dict[str, int] = field(default_factory=dict)
    _edits: pd.DataFrame | None = None
    _images: dict[str, tuple[str | None, int | None, int | None]] = field(default_factory=dict)
    _masks: dict[int, str] = field(default_factory=dict)
    _boxes: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, identifiers: Iterable[str]) -> None:
        """Put samples into the page, those that are not there yet."""
        missing = [name for name in dict.fromkeys(identifiers) if name not in self._places]
        table = schema.samples
        found: dict[str, Any] = {}
        with self.store.reading() as connection:
            for chunk in chunks(missing):
                query = select(*[table.c[name] for name in _COLUMNS]).where(table.c.identifier.in_(chunk))
                found.update((row["identifier"], dict(row)) for row in connection.execute(query).mappings())
        for name in missing:
            row = found[name]
            self._places[name] = len(self.page.content["samples"])
            self.page.content["samples"].append(
                {
                    "id": name,
                    "dataset": row["dataset"],
                    "question": row["question"],
                    "gold": row["answer"],
                    "pool": row["pool"],
                }
            )
            self._images[name] = (row["thumbnail"], row["image_width"], row["image_height"])

    def place(self, identifier: str) -> int:
        """The place of a sample that was added."""
        return self._places[identifier]

    def pair(self, identifier: str) -> int:
        """The place of a pair that was added."""
        return self._pairs[identifier]

    @property
    def names(self) -> list[str]:
        """The identifiers of all samples, in their order."""
        return list(self._places)

    def add_pairs(self, identifiers: Iterable[str]) -> None:
        """Put pairs with both of their samples into the page."""
        wanted = [name for name in dict.fromkeys(identifiers) if name not in self._pairs]
        if not wanted:
            return
        if self._edits is None:
            self._edits = self.store.edits()
        edits = self._edits
        rows = {row["identifier"]: row for row in frame_records(edits[edits["identifier"].isin(wanted)])}
        self.add(name for wish in wanted for name in (rows[wish]["clean"], rows[wish]["corrupt"]))
        for name in wanted:
            row = rows[name]
            self._pairs[name] = len(self.page.content["pairs"])
            if row["mask_thumbnail"]:
                self._masks[self._pairs[name]] = row["mask_thumbnail"]
            self.page.content["pairs"].append(
                {
                    "id": name,
                    "clean": self._places[row["clean"]],
                    "edited": self._places[row["corrupt"]],
                    "editor": row["editor"],
                    "kind": row["control"] or row["kind"],
                    "source": row["source_term"],
                    "target": row["target_term"],
                    "boxes": row["boxes"] or [],
                    "size": self._size(row["clean"]),
                    "why": row["reason"] or "",
                }
            )

    def _size(self, identifier: str) -> list[int] | None:
        """Width and height of a sample's image; None where nobody looked."""
        _, width, height = self._images[identifier]
        return [width, height] if width and height else None

    def add_images(self) -> None:
        """Put the thumbnails into the page, when all else is there: those of samples that were added first in front, as many as fit."""
        most = max(LEAST_FOR_IMAGES, PAGE_BYTES - self.page.size())
        digests = [digest for digest, _, _ in self._images.values() if digest]
        stored = read_thumbnails(self.store, [*digests, *self._masks.values()])
        keys: dict[str, str] = {}
        for digest in dict.fromkeys([*digests, *self._masks.values()]):
            kind, data = stored[digest]
            most -= len(data) * 4 // 3
            if most < 0:
                break
            keys[digest] = self.page.image(data, kind)
        for name, (thumbnail, _, _) in self._images.items():
            if thumbnail in keys:
                self.page.content["samples"][self._places[name]]["image"] = keys[thumbnail]
        for place, mask in self._masks.items():
            if mask in keys:
                self.page.content["pairs"][place]["mask"] = keys[mask]

    def add_answers(self, models: Sequence[str], run_ids: Sequence[int]) -> None:
        """What each model answered on the page's samples: of several answers the latest."""
        frame = self.store.baselines(run_ids)
        frame = frame[frame["identifier"].isin(self._places)].drop_duplicates(["model", "identifier"], keep="last")
        for model in models:
            # In the page's own order: that of the runs is chance where several workers open them.
            rows = frame[frame["model"] == model].sort_values("identifier", key=lambda names: names.map(self._places))
            texts = list(dict.fromkeys(rows["predicted"]))
            places = {text: index for index, text in enumerate(texts)}
            self.page.content["answers"].append(
                {
                    "model": model,
                    "texts": texts,
                    "sample": self.page.array([self._places[name] for name in rows["identifier"]], "int32"),
                    "text": self.page.array([places[text] for text in rows["predicted"]], "int32"),
                    "correct": self.page.array(rows["correct_strict"].to_numpy(dtype=bool), "uint8"),
                    "logit_diff": self.page.array(rows["logit_diff"].to_numpy(dtype=np.float64), "float64"),
                }
            )

    def add_places(self, model: str, places: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """Where a model's image positions look, by the image's size: prompts that are added later have them."""
        for size, boxes in places.items():
            if (model, size) not in self._boxes:
                self._boxes[model, size] = self.page.array(boxes, "float32")

    def add_prompts(self, models: Sequence[str], identifiers: Sequence[str]) -> None:
        """The tokens of these samples as each model reads them."""
        with self.store.reading() as connection:
            for model in models:
                for sample, tokens in _tokens(connection, model, identifiers).items():
                    _, width, height = self._images[sample]
                    boxes = self._boxes.get((model, f"{width}x{height}"))
                    prompt = {"model": model, "sample": self._places[sample], "tokens": tokens}
                    self.page.content["prompts"].append(prompt | ({"boxes": boxes} if boxes else {}))


def _tokens(connection: Connection, model: str, identifiers: Sequence[str]) -> dict[str, list[list[Any]]]:
    table, samples = schema.prompt_tokens, schema.samples
    names = ("position", "length", "token", "class", "role")
    found: dict[str, list[list[Any]]] = {}
    for chunk in chunks(identifiers):
        query = (
            select(samples.c.identifier, *[table.c[name] for name in names])
            .select_from(table.join(samples))
            .where(table.c.model == model, samples.c.identifier.in_(chunk))
            .order_by(samples.c.identifier, table.c.position)
        )
        for identifier, *token in connection.execute(query):
            found.setdefault(identifier, []).append(token)
    return found


def answered_pairs(store: Store, run_ids: Sequence[int]) -> list[str]:
    """The pairs that baselines of these runs are about."""
    table, units, edits = schema.baselines, schema.units, schema.edits
    query = (
        select(edits.c.identifier)
        .select_from(table.join(units).join(edits, edits.c.id == table.c.edit_id))
        .where(units.c.run_id.in_(list(run_ids)), is_current())
        .distinct()
        .order_by(edits.c.identifier)
    )
    with store.reading() as connection:
        return [str(name) for name in connection.execute(query).scalars()]
