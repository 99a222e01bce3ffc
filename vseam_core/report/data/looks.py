"""Where heads look, for the page: their attention over the image of every scanned sample, of as many heads as a page can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import select

from vseam_core.analysis.frames import frame_records
from vseam_core.report.data.known_samples import KnownSamples
from vseam_core.report.data.page_data import PageData
from vseam_core.results.image_attention import NAME, ImageAttention, attention_of
from vseam_core.results.stored_study import StoredStudy
from vseam_core.store import schema
from vseam_core.store.codec import decode_json
from vseam_core.store.currency import is_current
from vseam_core.store.store import Store

ATTENTION_BYTES = 320_000
"""Of attention in a page, as base64: with everything else of a default study it stays below 5 MB."""
FEWEST_HEADS = 4
"""Of every scan, however many samples it has."""

Task = tuple[str, str]
Found = dict[tuple[str, str], ImageAttention]
"""By what heads look from, and by sample."""


def add_looks(page: PageData, store: Store, chosen: StoredStudy, samples: KnownSamples, strengths: Mapping[Task, np.ndarray]) -> None:
    """Put attention over images into the page, by model and dataset; `strengths` say how much each head stands out there (`add_scans`).

    All heads where they fit, else those that stand out most.
    """
    found = {task: maps for task, maps in _stored(store, chosen, samples).items() if maps and task in strengths}
    bytes_of_a_head = sum(one.steps[0, 0].size for maps in found.values() for one in maps.values())
    most = max(FEWEST_HEADS, (ATTENTION_BYTES * 3 // 4) // max(bytes_of_a_head, 1))
    for (model, dataset), maps in found.items():
        order = np.argsort(-strengths[model, dataset], kind="stable")
        for looks_from, shape in dict.fromkeys((looks_from, one.steps.shape) for (looks_from, _), one in maps.items()):
            part = {name: one for (other, name), one in maps.items() if other == looks_from and one.steps.shape == shape}
            heads = sorted(int(head) for head in order[:most] if head < shape[0] * shape[1])
            about = {"model": model, "dataset": dataset, "from": looks_from}
            page.content["attention"].append({**about, **_entry(page, part, heads, samples)})


def _entry(page: PageData, maps: Mapping[str, ImageAttention], heads: Sequence[int], samples: KnownSamples) -> dict[str, Any]:
    layers, in_layer, rows, columns = next(iter(maps.values())).steps.shape
    steps = np.stack([one.steps.reshape(layers * in_layer, -1)[heads] for one in maps.values()])
    return {
        "heads": list(heads),
        "of": layers * in_layer,
        "rows": rows,
        "columns": columns,
        "sample": page.array([samples.place(name) for name in maps], "int32"),
        "largest": page.array(np.stack([one.largest.ravel()[heads] for one in maps.values()]), "float32"),
        "steps": page.array(steps, "uint8"),
    }


def _stored(store: Store, chosen: StoredStudy, samples: KnownSamples) -> dict[Task, Found]:
    """What was kept beside the scans, by model and dataset and by sample; of several the latest."""
    units, known = schema.units, set(samples.names)
    runs = {int(row["id"]): (row["model"], row["dataset"]) for row in frame_records(chosen.runs) if row["method"] == "head_scan"}
    query = (
        select(units.c.run_id, units.c.identifier, units.c.details)
        .where(units.c.run_id.in_(list(runs)), units.c.status == "done", units.c.details.contains(NAME), is_current())
        .order_by(units.c.id)
    )
    found: dict[Task, Found] = {}
    with store.reading() as connection:
        for run, name, details in connection.execute(query):
            kept = decode_json(details, "the details of a unit").get(NAME) if name in known else None
            for looks_from, record in kept.items() if isinstance(kept, dict) else ():
                attention = attention_of(record)
                if attention is not None:
                    found.setdefault(runs[run], {})[looks_from, name] = attention
    return found
