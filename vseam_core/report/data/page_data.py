"""The data of an interactive page: what its views draw, as one JSON object with arrays and images beside it. This is the contract.

A page is drawn from a `PageData`: fill `content` as below, put numbers by `array` and images by `image`, and render it
(`page.report_page`). Views appear where they have something to show, so that one sample of `vseam explain` and a study of many models
use the same page. Every list may be empty and every key with `?` may be missing. Numbers are those of the database, unrounded.

    schema    "vseam.page/1"
    title     text; subtitle?: text
    findings  [{text, kind: "found" | "open" | "note", link?: "#heads?scan=0&head=4.5"}]      (at most ten)
    models    [name];  tasks: [{dataset, label, level, category}]
    samples   [{id, dataset, question, gold, pool, image?: image}]                             (an edited image is a sample of its own)
    pairs     [{id, clean: sample, edited: sample, editor, kind: "edit" | "control", source, target, boxes: [[x0, y0, x1, y1]],
                size?: [width, height], mask?: image, why?: text}]                             (boxes in pixels of an image of `size`)
    answers   [{model, texts: [text], sample: int32, text: int32, correct: uint8, logit_diff: float64}]
                                                                                               (arrays `[n]`; NaN: unknown)
    skips     [{id, dataset, what, reason}]
    scans     [{model, dataset, operation, words, parity?, positions, stack, measure, unit, layers, heads, columns: [name],
                values: float64 [columns, layers * heads], states: {positive | negative: {shown, resolved, words}}, sql?,
                effects?: {sample: int32 [n], correct: uint8 [n] (2: unknown), base: float64 [n], values: float32 [n, layers, heads]}}]
              (columns of `values` are those of the table head_scores; flags are 0 and 1; NaN: null. An effect is base minus replaced. A map
               of differences has the columns of `comparison`, `states.difference` and a `caption`)
    attention [{model, dataset, from: "last" | "question", heads: [layer * heads + head], of, rows, columns, sample: int32 [n],
                largest: float32 [n, heads], steps: uint8 [n, heads, rows, columns]}]
              (of `of` heads those that a page holds: the share of a head's attention, from the last position or on average from the
               question's words, that falls into each cell of the image, in 255ths of the `largest`)
    axes      [{layers: [int], kind: "position" | "group", columns: [text], roles: [text]}]
    traces    [{model, dataset, tracer, view: "map" | "curve" | "readout", title, caption, measure, unit, stack,
                sites: {name: words}, columns: {label: words}, directions: [name],
                shown: [label], shares: bool,
                aggregates: [{site, direction, layers: [int], columns: [label], numbers: [name], band_models?,
                              values: float64 [numbers, layers, columns]}],
                samples: [{site, direction, index: int32 [3, n], ends: float64 [2, n], values: float32 [all], cells?: [[text]]}]}]
              (`numbers` are n, mean, low, high, below_noise_floor (0, 1), and where there are any share, share_low, share_high, band_low,
               band_high. `index` holds each sample's pair, its axis, and where its values `[layers, columns]` begin; `ends` the measure on
               the clean and on the edited image. `cells` are words for a sample's cells, such as the lens's strongest tokens: one list
               per sample)
    prompts   [{model, sample, tokens: [[position, length, text, class, role]], boxes?: float32 [image positions, 4]}]
              (boxes: where each image position looks, as fractions x0, y0, x1, y1 of the image)
    shared    [{model, sign, k, tasks: [label], rows: [{a, b, overlap, expected, p, q, ceiling, jaccard, reason, heads: [name]}],
                level: {…} | null}]
    ablations, rescalings, tables: plain rows, as `study_data` says
    evaluations [{run, model, dataset, label, pool, split, change, compared_with, metric, rows: [{subset, value, low, high, n, reason,
                  gain: {value, low, high, n, p, better, worse} | null}],
                  turned: [{id, question, gold, before, after, better}]}]            (turned: samples whose score became another)
    comparisons [{model, dataset, label, split, n, n_choose, rows: [{method, change, accuracy, gain, …}]}]      (as the table comparisons)
    screened_paths [{model, dataset, label, direction, positions, n, estimated, top, random, rank_correlation, …,
                     rows: [{sender, receiver, part, estimate, mean, low, high, …}]}]
    directions [{model, dataset, label, site, n_fitted, n_held_out, images, layers, kinds: {kind: {layer, held_out, low, high, fitted}}}]
    readings  [{model, dataset, label, reading, tracer, operation, words,
                tests: {signed | size: {rank_correlation, low, high, p_value, heads}},
                heads: [name], values: float64 [2, heads]}]                         (what is read of each head, and its effect)
    live      what the server calls the state that the page was drawn from, where one serves it
    how       {facts: [[name, value]], models: [{…}], runs: [{…}], commands: [text]}

A sample, scan or pair elsewhere is its index in these lists; `image` is a key of the images. An array stands in the JSON as
`{"array": name, "type": …, "shape": […]}`, its little-endian bytes as base64 in an element of that name (equal ones once); the page
decodes it when a view first needs it. To add a view: put its data into `content` under a key of its own, write `assets/NAME.js` with a
function `view(page)` that returns an element or null, and name it in `assets/views.js`.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from vseam_core.pages.rendering import json_text

SCHEMA = "vseam.page/1"
ArrayType = Literal["float64", "float32", "int32", "uint8"]
_ELEMENT = 60
"""Bytes of the tags around one array."""
_LITTLE: dict[ArrayType, str] = {"float64": "<f8", "float32": "<f4", "int32": "<i4", "uint8": "|u1"}
_LISTS = (
    *("findings", "models", "tasks", "samples", "pairs", "answers", "skips", "scans", "attention", "axes", "traces"),
    *("prompts", "shared", "tables"),
)


@dataclass(eq=False)
class PageData:
    """The growing data of one page."""

    title: str
    subtitle: str = ""
    content: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    _names: dict[tuple[ArrayType, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        heading = {"schema": SCHEMA, "title": self.title, "subtitle": self.subtitle}
        self.content = {**heading, **{name: [] for name in _LISTS}, "how": {}, **self.content}

    def array(self, values: ArrayLike, kind: ArrayType) -> dict[str, Any]:
        """Put an array beside the JSON, equal ones once; returns what stands for it there."""
        found = np.ascontiguousarray(values, dtype=_LITTLE[kind])
        text = base64.b64encode(found.tobytes()).decode("ascii")
        name = self._names.setdefault((kind, text), f"array-{len(self.arrays)}")
        self.arrays[name] = text
        return {"array": name, "type": kind, "shape": list(found.shape)}

    def image(self, data: bytes, kind: str = "webp") -> str:
        """Put an encoded image beside the JSON, equal ones once; returns its key."""
        key = hashlib.sha256(data).hexdigest()[:16]
        self.images.setdefault(key, f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}")
        return key

    def size(self) -> int:
        """About how many bytes the data elements take in the page."""
        return len(json_text(self.blocks()).encode("utf-8")) + _ELEMENT * len(self.arrays)

    def blocks(self) -> dict[str, Any]:
        """The data elements of the page by their ids."""
        return {"page": self.content, "images": self.images, **self.arrays}
