"""One explained answer in words and in short tables: what was answered, which cells and heads carry it, and that one sample is no claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vseam_core.analysis.traces import FLOOR_FACTOR, MINIMUM_GAP
from vseam_core.api.types import TraceEffect
from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.words import SITE_WORDS
from vseam_core.results.explanation import NO_CLAIM, Explanation

CELLS_PER_SITE = 2
HEADS_SHOWN = 5
MOST_RUNS = 5


def explained_sentences(found: Explanation) -> list[str]:
    """What the numbers say, in the order in which one asks: answers, edit, words, heads, attention; the last one says n = 1."""
    return [*_about_answers(found), *_about_words(found), *_about_heads(found), *_about_readings(found), *_about_attention(found), NO_CLAIM]


def _about_answers(found: Explanation) -> Iterator[str]:
    clean, edited = found.clean, found.edited
    yield (
        f"{found.model} answers {clean.text!r} ({found.answer!r} {clean.probability:.1%}, {found.against!r} {clean.other_probability:.1%})."
    )
    by = "your own" if found.edit.editor == "given" else f"by {found.edit.editor}"
    change = f"{found.edit.source_term} → {found.edit.target_term}" if found.edit.source_term else by
    yield (
        f"On the edited image ({change}) it answers {edited.text!r}: the logit difference of {found.answer!r} against {found.against!r} "
        f"goes from {clean.logit_diff:+.2f} to {edited.logit_diff:+.2f} nats."
    )
    if abs(found.gap) < MINIMUM_GAP:
        yield f"The two images differ by {abs(found.gap):.2f} nats only, so there is little that any part of the model could carry."


def patched_cells(found: Explanation) -> list[TraceEffect]:
    """The traces that put single positions of the clean run into the edited one, by the logit difference."""
    return [one for one in found.traces if one.direction == "denoising" and one.measure == "logit_diff" and one.column_kind == "position"]


def _about_words(found: Explanation) -> Iterator[str]:
    for effect in patched_cells(found):
        layer, word, value = found.strongest_cells(effect, 1)[0]
        if effect.site_kind.startswith("residual"):
            yield f"{_site(effect.site_kind)}: most of the difference lies at {_way(found, effect)}."
        elif abs(value) < FLOOR_FACTOR * found.noise_floor:
            yield f"{_site(effect.site_kind)}: no single token at any layer moves the answer by more than rounding does."
        else:
            yield f"{_site(effect.site_kind)}: most is carried at layer {layer} by {word!r}, {value:+.2f} nats{_share(found, value)}."


def _way(found: Explanation, effect: TraceEffect) -> str:
    """Where the most of it lies, layer after layer: at the last layer that is the last position in any decoder."""
    words = found.column_words(effect)
    strongest = [words[int(column)] for column in np.abs(effect.values).argmax(axis=1)]
    runs: list[tuple[str, int, int]] = []
    for layer, word in zip(effect.layers, strongest, strict=True):
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1], layer)
        else:
            runs.append((word, layer, layer))
    shown = [f"{word!r} (layer {first})" if first == last else f"{word!r} (layers {first} to {last})" for word, first, last in runs]
    return ", then ".join(shown if len(shown) <= MOST_RUNS else [*shown[: MOST_RUNS - 1], "…", shown[-1]])


def _about_heads(found: Explanation) -> Iterator[str]:
    for operation in found.operations:
        strongest = ", ".join(f"{head} ({value:+.2f} nats)" for head, value in found.strongest_heads(operation, 3))
        yield f"Heads that matter most, replaced by {found.replacements.get(operation, operation)}: {strongest}."


def _about_readings(found: Explanation) -> Iterator[str]:
    """From which layer on the residual at the last position reads as the answer, on the clean image."""
    for effect in found.traces:
        if effect.measure == "top_token" and effect.direction == "clean":
            tops = [found.token_texts.get(int(value), "") for value in effect.values[:, -1]]
            last = tops[-1]
            first = next(index for index in range(len(tops)) if all(text == last for text in tops[index:]))
            yield f"Read off the last position, the likeliest word is {last!r} from layer {effect.layers[first]} on (logit lens)."


def _about_attention(found: Explanation) -> Iterator[str]:
    places = list(found.prompt.image_positions)
    for effect in found.traces:
        if effect.measure == "weight" and effect.direction == "clean" and effect.site_kind.endswith("_last") and places:
            to_image = effect.values[:, places].sum(1)
            layer = int(to_image.argmax())
            yield (
                f"The last position looks at the image with {to_image.mean():.0%} of its attention on average, most at layer "
                f"{effect.layers[layer]} ({to_image[layer]:.0%}); looking is not using."
            )


def explained_tables(found: Explanation) -> list[ReportTable]:
    """The strongest cells of each site and the strongest heads: a dozen rows, the rest is in the page and in `frame`."""
    return [table for table in (_cell_table(found), _head_table(found)) if table is not None and table.rows]


def _cell_table(found: Explanation) -> ReportTable | None:
    records = [
        {"site": _site(effect.site_kind), "layer": layer, "word": word, "nats": value, "share": _share_of(found, value)}
        for effect in patched_cells(found)
        for layer, word, value in found.strongest_cells(effect, CELLS_PER_SITE)
    ]
    return table_of(
        "Where the answer is carried: one activation of the image put into the run on the edited one",
        ("site", "layer", "word", "nats", "share"),
        records,
        "share: of the logit difference between the two images.",
    )


def _head_table(found: Explanation) -> ReportTable | None:
    if not found.operations:
        return None
    maps = {operation: found.head_map(operation) for operation in found.operations}
    # Ranked by the largest effect under any of the operations.
    largest = np.max([np.abs(values) for values in maps.values()], axis=0)
    order = np.argsort(-largest, axis=None, kind="stable")[:HEADS_SHOWN]
    records: list[dict[str, Any]] = []
    for index in order:
        layer, head = divmod(int(index), largest.shape[1])
        records.append({"head": f"L{layer}H{head}", **{operation: float(values[layer, head]) for operation, values in maps.items()}})
    note = "; ".join(f"{operation}: {found.replacements.get(operation, operation)}" for operation in maps)
    return table_of(
        "What heads are worth: nats of the logit difference that are lost when a head is replaced", ("head", *maps), records, f"{note}."
    )


def _site(kind: str) -> str:
    words = SITE_WORDS.get(kind, kind.replace("_", " "))
    return words[0].upper() + words[1:]


def _share_of(found: Explanation, value: float) -> float | None:
    return value / found.gap if abs(found.gap) >= MINIMUM_GAP else None


def _share(found: Explanation, value: float) -> str:
    share = _share_of(found, value)
    return "" if share is None else f", {share:.0%} of the difference"
