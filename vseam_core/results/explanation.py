"""What is known about one question and one image after `explain`: answers, the edit, and every measured effect, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.types import Box, Direction, HeadEffect, HeadId, TraceEffect

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

NO_CLAIM = (
    "This is one question about one image (n = 1): what holds here may hold nowhere else. No interval, no test and no claim can be made "
    "of it; `vseam heads scan` and `vseam trace` on a dataset can."
)


@dataclass(frozen=True, eq=False)
class AnsweredImage:
    """One of the two images and what the model answers about it.

    `probability` and `other_probability` are those of the explained answer and of the one it is held against, where they first differ;
    `logit_diff` is the log of their ratio, in nats.
    """

    image: Image
    text: str
    probability: float
    other_probability: float
    logit_diff: float


@dataclass(frozen=True, eq=False)
class EditMade:
    """How the second image came about: the editor, the words of the edit ("" where nothing was named), and where it differs."""

    editor: str
    source_term: str
    target_term: str
    boxes: tuple[Box, ...]
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PromptRead:
    """The prompt position by position: the text of each token, its class and role, and where image positions lie in the image.

    `image_boxes` are fractions `(x0, y0, x1, y1)` for each image position in order, None where positions have no place in the image.
    """

    tokens: tuple[str, ...]
    classes: tuple[str, ...]
    roles: tuple[str, ...]
    image_boxes: tuple[Box, ...] | None

    @property
    def image_positions(self) -> tuple[int, ...]:
        """The positions of the image."""
        return tuple(index for index, name in enumerate(self.classes) if name == "image")


@dataclass(frozen=True, eq=False)
class Explanation:
    """One explained answer. Trace effects are as `vseam trace` stores them, head effects as `vseam heads scan` does, both for n = 1.

    `answer` is what is explained, `against` what it is held against. `noise_floor` is in nats: the largest effect of putting an
    activation in its own place. `token_texts` gives words for the token ids of a lens. `remarks` say what was not possible and what was
    done instead. `replacements` say what each operation puts in place of a head. `runs` are the numbers of the stored runs by what they
    measured, `database` where they are ("" in memory).
    """

    model: str
    question: str
    answer: str
    against: str
    clean: AnsweredImage
    edited: AnsweredImage
    edit: EditMade
    prompt: PromptRead
    traces: tuple[TraceEffect, ...]
    heads: tuple[HeadEffect, ...]
    noise_floor: float
    token_texts: Mapping[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    runs: Mapping[str, int] = field(default_factory=dict)
    replacements: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Clean minus edited logit difference, in nats: what a patch can restore."""
        return self.clean.logit_diff - self.edited.logit_diff

    def trace(self, tracer: str, site_kind: str, direction: Direction = "denoising", measure: str = "logit_diff") -> TraceEffect:
        """One array of traces. Raises `KeyError` with what there is."""
        for effect in self.traces:
            if (effect.tracer, effect.site_kind, effect.direction, effect.measure) == (tracer, site_kind, direction, measure):
                return effect
        known = sorted({f"{one.tracer}/{one.site_kind}/{one.direction}/{one.measure}" for one in self.traces})
        raise KeyError(f"no trace {tracer}/{site_kind}/{direction}/{measure}; there are {', '.join(known)}")

    def head_map(self, operation: str, measure: str = "logit_diff") -> np.ndarray:
        """What each head's own output is worth under an operation, float32 `[layers, heads]`. Raises `KeyError` with what there is."""
        for effect in self.heads:
            if (effect.operation, effect.measure) == (operation, measure):
                return effect.values
        raise KeyError(f"no heads by {operation}, {measure}; there are {', '.join(sorted({one.operation for one in self.heads}))}")

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that heads were scored by, in the order in which they ran."""
        return tuple(dict.fromkeys(effect.operation for effect in self.heads))

    def strongest_heads(self, operation: str, count: int = 5) -> list[tuple[HeadId, float]]:
        """The heads with the largest effects of either sign, largest first, in nats."""
        values = self.head_map(operation)
        stack = next(effect.stack for effect in self.heads)
        order = np.argsort(-np.abs(values), axis=None, kind="stable")[:count]
        places = [divmod(int(index), values.shape[1]) for index in order]
        return [(HeadId(layer, head, stack), float(values[layer, head])) for layer, head in places]

    def column_words(self, effect: TraceEffect) -> tuple[str, ...]:
        """What the columns of a trace are called: the token's text at each position."""
        if effect.column_kind == "group":
            return effect.columns
        return tuple(self.prompt.tokens[int(column)] for column in effect.columns)

    def strongest_cells(self, effect: TraceEffect, count: int = 3) -> list[tuple[int, str, float]]:
        """The largest effects of a trace by size: layer, word, value."""
        words = self.column_words(effect)
        order = np.argsort(-np.abs(effect.values), axis=None, kind="stable")[:count]
        places = [divmod(int(index), effect.values.shape[1]) for index in order]
        return [(effect.layers[row], words[column], float(effect.values[row, column])) for row, column in places]

    @property
    def frame(self) -> pd.DataFrame:
        """Every number as a table: one row per cell, with kind (trace or head), method, site, direction, measure, layer, place and value.

        `position` is the position of a traced token (null for groups and heads), `place` its text, the group or the head.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for effect in self.traces:
            rows += self._trace_rows(effect)
        for one in self.heads:
            common = {"kind": "head", "method": one.operation, "site": "head_output", "direction": "", "measure": one.measure}
            rows += [
                {**common, "layer": layer, "position": None, "place": str(HeadId(layer, head, one.stack)), "value": float(value)}
                for (layer, head), value in np.ndenumerate(one.values)
            ]
        return pd.DataFrame(rows).astype({"position": "Int64"})

    def _trace_rows(self, effect: TraceEffect) -> list[dict[str, Any]]:
        words = self.column_words(effect)
        common = {
            "kind": "trace",
            "method": effect.tracer,
            "site": effect.site_kind,
            "direction": str(effect.direction),
            "measure": effect.measure,
        }
        grouped = effect.column_kind == "group"
        return [
            {
                **common,
                "layer": effect.layers[row],
                "position": None if grouped else int(effect.columns[column]),
                "place": words[column],
                "value": float(value),
            }
            for (row, column), value in np.ndenumerate(effect.values)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images, as plain values: what `vseam explain --json` prints."""
        return {
            "model": self.model,
            "question": self.question,
            "answer": self.answer,
            "against": self.against,
            "clean": _answered(self.clean),
            "edited": _answered(self.edited),
            "edit": {
                "editor": self.edit.editor,
                "source_term": self.edit.source_term,
                "target_term": self.edit.target_term,
                "boxes": [list(box) for box in self.edit.boxes],
            },
            "prompt": {
                "tokens": list(self.prompt.tokens),
                "classes": list(self.prompt.classes),
                "roles": list(self.prompt.roles),
                "image_boxes": None if self.prompt.image_boxes is None else [list(box) for box in self.prompt.image_boxes],
            },
            "n": 1,
            "no_claim": NO_CLAIM,
            "noise_floor": self.noise_floor,
            "traces": [_array(effect, ("layers", "columns", "column_kind", "roles", "clean", "corrupt")) for effect in self.traces],
            "heads": [_array(effect, ("positions", "base")) for effect in self.heads],
            "token_texts": {str(number): text for number, text in self.token_texts.items()},
            "replacements": dict(self.replacements),
            "remarks": list(self.remarks),
            "runs": dict(self.runs),
            "database": self.database,
        }


def _answered(answered: AnsweredImage) -> dict[str, Any]:
    return {
        "text": answered.text,
        "probability": answered.probability,
        "other_probability": answered.other_probability,
        "logit_diff": answered.logit_diff,
    }


def _array(effect: TraceEffect | HeadEffect, more: Sequence[str]) -> dict[str, Any]:
    named = ("tracer", "site_kind", "direction") if isinstance(effect, TraceEffect) else ("operation",)
    fields = {name: getattr(effect, name) for name in (*named, "stack", "measure", *more)}
    return {**fields, "values": effect.values.tolist()}
