"""Attention knockout: which positions must be able to look at which others for the answer to come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from vseam_core.api.interfaces import ModelShape, TraceContext, Tracer
from vseam_core.api.interventions import MEASURES, AnswerScore, AttentionBlock, Run, RunResult
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import POSITION_CLASSES, EncodedPrompt, PositionClass
from vseam_core.api.types import TraceEffect
from vseam_core.errors import UnsupportedError, VseamError
from vseam_plugins.tracers.grids import (
    BASELINES,
    baseline_answers,
    baseline_runs,
    chosen_names,
    differences,
    expect_results,
    stack_of,
    usable_measures,
)

ARROW = "<-"
EDGES: tuple[str, ...] = (
    "last<-image",
    "last<-question",
    "last<-template",
    "question<-image",
    "template<-image",
    "template<-question",
)
ALL_LAYERS = -1


@dataclass(frozen=True)
class KnockoutRows:
    """The rows of one knockout array: their labels and the layers cut in each."""

    site_kind: str
    labels: tuple[int, ...]
    windows: tuple[tuple[int, ...], ...]


class AttentionKnockout(Tracer):
    """Cuts attention from one class of positions to another in a window of layers of the clean run, before the softmax.

    Columns are edges `targets<-sources` (queries at targets may not look at keys at sources). Two site kinds: `attention` has one
    row per layer, the window of `window` layers around it (clipped at both ends); `attention_all_layers` has one row, labelled −1,
    cut in every layer. `values` = cut − clean, so an edge that carries the answer is negative in `logit_diff`; `direction` is
    `clean`, because nothing is copied between the images. Source: Geva et al. 2023 (arXiv 2304.14767).
    """

    name: ClassVar[str] = "knockout"

    def __init__(
        self,
        window: int = 1,
        edges: Sequence[str] = EDGES,
        measures: Sequence[str] = ("logit_diff",),
    ) -> None:
        if window < 1:
            raise VseamError(f"knockout: window must be at least 1 layer, got {window}")
        names = (edges,) if isinstance(edges, str) else tuple(edges)
        if not names:
            raise VseamError(f"knockout: no edge chosen; name some, such as {', '.join(EDGES[:3])}")
        self.window = window
        self.edges = {edge: _parse_edge(edge) for edge in names}
        self.measures = chosen_names("measure", measures, MEASURES)

    def plan(self, context: TraceContext) -> Sequence[Run]:
        """Clean, corrupt, then one run per row and edge. Raises `UnsupportedError` where no edge has positions on both ends."""
        usable_measures(self.measures, context)
        runs = baseline_runs(context)
        readouts = (AnswerScore(context.answer),)
        stack = stack_of(context.shape)
        edges = self._present_edges(context.clean)
        for rows in self._rows(context.shape):
            for layers in rows.windows:
                for targets, sources in edges.values():
                    block = AttentionBlock(layers, targets, sources, stack=stack)
                    runs.append(Run(context.clean, readouts, (block,)))
        return runs

    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """Cut minus clean, float32 `[layers, edges]`, and one row for all layers."""
        clean, corrupt = baseline_answers(results)
        answers = iter([result.answer for result in results[BASELINES:]])
        edges = tuple(self._present_edges(context.clean))
        rows_of_plan = self._rows(context.shape)
        expect_results(results, BASELINES + len(edges) * sum(len(rows.windows) for rows in rows_of_plan))
        effects = []
        for rows in rows_of_plan:
            shape = (len(rows.windows), len(edges))
            cut = [next(answers) for _ in range(shape[0] * shape[1])]
            for measure in usable_measures(self.measures, context):
                effects.append(
                    TraceEffect(
                        tracer=self.name,
                        stack=context.shape.stack,
                        site_kind=rows.site_kind,
                        direction="clean",
                        measure=measure,
                        layers=rows.labels,
                        columns=edges,
                        column_kind="group",
                        roles=edges,
                        values=differences(cut, clean, measure, shape),
                        clean=getattr(clean, measure),
                        corrupt=getattr(corrupt, measure),
                    )
                )
        return effects

    def presentation(self) -> Presentation:
        """A curve for each edge over the layers it is cut in, beside the edge cut in all layers."""
        layers = "one layer" if self.window == 1 else f"{self.window} layers around each"
        return Presentation(
            view="curve",
            title="what cutting attention between positions does to the answer",
            caption=f"Attention from the positions on the left of ← to those on its right is masked in {layers} of the clean run, before "
            "the softmax; value = cut − clean. An edge that carries the right answer lies below 0. Cut in all layers at once (dashed), "
            "an edge shows everything that takes this way; a single layer shows only what no other layer can replace.",
            columns={edge: edge.replace(ARROW, " ← ") for edge in self.edges},
            sites={"attention": "attention cut in one window", "attention_all_layers": "attention cut in all layers"},
        )

    def options(self) -> Mapping[str, object]:
        """Window, edges and measures."""
        return {"window": self.window, "edges": list(self.edges), "measures": list(self.measures)}

    def _rows(self, shape: ModelShape) -> tuple[KnockoutRows, KnockoutRows]:
        layers = tuple(range(shape.layers))
        windows = tuple(_window(layer, self.window, shape.layers) for layer in layers)
        return KnockoutRows("attention", layers, windows), KnockoutRows("attention_all_layers", (ALL_LAYERS,), (layers,))

    def _present_edges(self, prompt: EncodedPrompt) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        found = {edge: (prompt.positions(*targets), prompt.positions(*sources)) for edge, (targets, sources) in self.edges.items()}
        present = {edge: ends for edge, ends in found.items() if all(ends)}
        if not present:
            raise UnsupportedError(f"knockout: no position on one end of {', '.join(self.edges)} in this family's prompt")
        return present


def _window(centre: int, size: int, layers: int) -> tuple[int, ...]:
    """The `size` layers around `centre` that exist; with an even size the extra one lies below."""
    first = centre - size // 2
    return tuple(layer for layer in range(first, first + size) if 0 <= layer < layers)


def _parse_edge(edge: str) -> tuple[tuple[PositionClass, ...], tuple[PositionClass, ...]]:
    """Targets and sources of `targets<-sources`; several classes are joined by `+`."""
    targets, arrow, sources = edge.partition(ARROW)
    if not arrow:
        raise VseamError(f"knockout: edge {edge!r} is not of the form targets{ARROW}sources, such as last{ARROW}image")
    ends = [chosen_names("position class", end.strip().split("+"), POSITION_CLASSES) for end in (targets, sources)]
    return cast("tuple[PositionClass, ...]", ends[0]), cast("tuple[PositionClass, ...]", ends[1])
