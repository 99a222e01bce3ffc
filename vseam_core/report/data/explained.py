"""The data of the page of one explained answer: the form that `assets/explained.js` draws, beside what every page has."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.types import HeadEffect, TraceEffect
from vseam_core.report.data.page_data import PageData
from vseam_core.report.tables.explained import explained_sentences, explained_tables
from vseam_core.report.words import SITE_WORDS
from vseam_core.results.explanation import AnsweredImage, Explanation

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_SIDE = 640
"""Pixels: images of a page are made smaller than this."""
MOST_BYTES = 2_000_000
"""Of attention weights as they are; more are rounded."""


def explanation_page_data(found: Explanation) -> PageData:
    """The page of one answer. The key `explained` of its content holds

    {model, question, answer, against, gap, noise_floor, size: [width, height],
     clean, edited: {image, text, probability, other_probability, logit_diff}, difference: image,
     edit: {editor, source, target, boxes}, tokens: [[text, class, role]], boxes?: float32 [image positions, 4],
     traces: [{tracer, site, words, direction, measure, kind, layers, columns, clean, corrupt, values: float32 [layers, columns],
               cells?: [text]}],
     heads: [{operation, words, measure, stack, layers, heads, values: float32 [layers, heads]}],
     attention: [{from, image: "clean" | "corrupt", layers: [its number], heads, values: float32 [layers, heads, positions], or uint8 with
                  largest: what 255 stands for}]}

    Attention of a large model is rounded to 255ths of its largest weight, so that the page stays small; the database has all of it.
    """
    page = PageData(found.question, f"{found.model}: one answer explained (n = 1)")
    page.content["models"] = [found.model]
    page.content["findings"] = [{"text": text, "kind": "found", "link": None} for text in (*explained_sentences(found), *found.remarks)]
    page.content["tables"] = [asdict(table) for table in explained_tables(found)]
    page.content["how"] = _how(found)
    width, height = found.clean.image.size
    page.content["explained"] = {
        "model": found.model,
        "question": found.question,
        "answer": found.answer,
        "against": found.against,
        "gap": found.gap,
        "noise_floor": found.noise_floor,
        "size": [width, height],
        "clean": _answered(page, found.clean),
        "edited": _answered(page, found.edited),
        "difference": page.image(_encoded(_difference(found))),
        "edit": {
            "editor": found.edit.editor,
            "source": found.edit.source_term,
            "target": found.edit.target_term,
            "boxes": [list(box) for box in found.edit.boxes],
        },
        "tokens": [list(token) for token in zip(found.prompt.tokens, found.prompt.classes, found.prompt.roles, strict=True)],
        "boxes": None if found.prompt.image_boxes is None else page.array(found.prompt.image_boxes, "float32"),
        "traces": [_trace(page, found, one) for one in found.traces if one.measure not in ("weight", "top_token")],
        "heads": [_heads(page, found, one) for one in found.heads],
        "attention": _attention(page, found),
    }
    return page


def _answered(page: PageData, answered: AnsweredImage) -> dict[str, Any]:
    return {
        "image": page.image(_encoded(answered.image)),
        "text": answered.text,
        "probability": answered.probability,
        "other_probability": answered.other_probability,
        "logit_diff": answered.logit_diff,
    }


def _encoded(image: Image) -> bytes:
    """An image as WebP, no larger than a page needs."""
    small = image.convert("RGB")
    small.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    content = io.BytesIO()
    small.save(content, format="WEBP", quality=85)
    return content.getvalue()


def _difference(found: Explanation) -> Image:
    """The absolute difference of the two images, its largest value as white."""
    from PIL import Image as images

    clean, edited = (np.asarray(side.image.convert("RGB"), dtype=float) for side in (found.clean, found.edited))
    apart = np.abs(clean - edited)
    return images.fromarray((255 * apart / max(1.0, apart.max())).astype(np.uint8))


def _trace(page: PageData, found: Explanation, effect: TraceEffect) -> dict[str, Any]:
    entry = {
        "tracer": effect.tracer,
        "site": effect.site_kind,
        "words": SITE_WORDS.get(effect.site_kind, effect.site_kind.replace("_", " ")),
        "direction": effect.direction,
        "measure": effect.measure,
        "kind": effect.column_kind,
        "layers": list(effect.layers),
        "columns": list(effect.columns) if effect.column_kind == "group" else [int(column) for column in effect.columns],
        "clean": effect.clean,
        "corrupt": effect.corrupt,
        "values": page.array(effect.values, "float32"),
    }
    tops = next((one for one in found.traces if one.measure == "top_token" and _same_cells(one, effect)), None)
    if tops is not None:
        entry["cells"] = [found.token_texts[int(number)] for number in tops.values.flat]
    return entry


def _same_cells(one: TraceEffect, other: TraceEffect) -> bool:
    names = ("tracer", "site_kind", "direction", "layers", "columns")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _heads(page: PageData, found: Explanation, effect: HeadEffect) -> dict[str, Any]:
    return {
        "operation": effect.operation,
        "words": found.replacements.get(effect.operation, effect.operation),
        "measure": effect.measure,
        "stack": effect.stack,
        "layers": effect.values.shape[0],
        "heads": effect.values.shape[1],
        "values": page.array(effect.values, "float32"),
    }


def _attention(page: PageData, found: Explanation) -> list[dict[str, Any]]:
    """The weights of all heads from each class of positions, by image; where heads were not read apart, their mean stands for one."""
    found_maps: dict[tuple[str, str], dict[int, TraceEffect]] = {}
    for effect in found.traces:
        if effect.measure != "weight" or effect.column_kind != "position":
            continue
        site, _, head = effect.site_kind.partition("_head_")
        if head:
            found_maps.setdefault((site, effect.direction), {})[int(head)] = effect
    size = sum(effect.values.nbytes for heads in found_maps.values() for effect in heads.values())
    return [
        {
            "from": site.removeprefix("attention_from_").replace("_", " "),
            "image": direction,
            "layers": list(heads[0].layers),
            "heads": len(heads),
            **_weights(page, np.stack([heads[head].values for head in sorted(heads)], axis=1), size > MOST_BYTES),
        }
        for (site, direction), heads in found_maps.items()
    ]


def _weights(page: PageData, weights: np.ndarray, rounded: bool) -> dict[str, Any]:
    """Weights `[layers, heads, positions]` as they are, or as 255ths of the largest."""
    if not rounded:
        return {"values": page.array(weights, "float32")}
    largest = float(weights.max()) or 1.0
    return {"values": page.array(np.rint(255 * weights / largest), "uint8"), "largest": largest}


def _how(found: Explanation) -> dict[str, Any]:
    trust, versions = found.about.get("trust", {}), found.about.get("versions", {})
    facts = [
        ["model", found.model],
        ["samples", "1: no claim is made"],
        ["noise floor", f"{found.noise_floor:.2g} nats"],
        ["database", found.database or "none: the numbers are in this page"],
        ["runs", ", ".join(f"{name} {number}" for name, number in found.runs.items())],
        ["versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))],
    ]
    lines = [[name.replace("_", " "), value] for name, value in trust.items() if isinstance(value, str | int | float | bool | None)]
    able = [[part["name"], "yes" if part["holds"] else part["reason"]] for part in trust.get("capabilities", [])]
    model = {"name": found.model, "facts": [], "trust": lines, "able": able}
    return {"facts": facts, "models": [model], "runs": [], "commands": [], "configuration": {}}
