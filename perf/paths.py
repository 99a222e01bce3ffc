"""One sender's paths to all heads, ours against full forward passes with plain hooks that share their first pass."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from perf.engine import Bench, Cell, Row, measure
from perf.shapes import ANSWER
from vseam_core.api.interventions import AnswerScore, Patch, PathPatch, Run, Site, SiteEdit

SENDER = (0, 1)
PARTS = ("query", "key", "value")


class PathBench:
    """The paths of one head, changed at the text positions, to the query, key and value of every later head."""

    def __init__(self, bench: Bench):
        self.bench, self.first = bench, bench.text[0]
        self.cells = list(itertools.product(range(SENDER[0] + 1, bench.shape.layers), range(bench.shape.heads)))

    def runs(self) -> dict[tuple[int, int], Run]:
        """A run for each receiving head."""
        sender = SiteEdit(Site(SENDER[0], "head_output", SENDER[1]), Patch(), tuple(self.bench.text))
        return {
            (layer, head): Run(
                self.bench.corrupt,
                (AnswerScore(ANSWER),),
                (PathPatch((sender,), tuple(Site(layer, part, head) for part in PARTS)),),  # type: ignore[arg-type]
                self.bench.clean,
            )
            for layer, head in self.cells
        }

    def slow(self) -> Cell:
        """Plain hooks: one pass in which all but the sender is held, then a full forward pass for each receiver."""
        size, held = self.bench.shape.head_dim, self._held()
        sent = self._sent(held)

        def cell(layer: int, head: int) -> torch.Tensor:
            part = slice(head * size, (head + 1) * size)

            def hook(name: str) -> Any:
                def replace(_: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
                    output[:, self.first :, part] = sent[layer, name][:, self.first :, part]
                    return output

                return replace

            attention = self.bench.layers[layer].self_attn
            handles = [getattr(attention, f"{name[0]}_proj").register_forward_hook(hook(name)) for name in PARTS]
            try:
                return self.bench.forward(self.bench.corrupt)
            finally:
                for handle in handles:
                    handle.remove()

        return cell

    def _held(self) -> dict[tuple[str, int, str], torch.Tensor]:
        """The inputs of W_O and the outputs of MLPs of both images."""
        kept: dict[tuple[str, int, str], torch.Tensor] = {}
        for name, prompt in (("corrupt", self.bench.corrupt), ("clean", self.bench.clean)):
            handles = []
            for index, layer in enumerate(self.bench.layers):
                heads, mlp = (name, index, "heads"), (name, index, "mlp")
                handles += [
                    layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args, at=heads: kept.__setitem__(at, args[0].clone())),
                    layer.mlp.register_forward_hook(lambda _, args, output, at=mlp: kept.__setitem__(at, output.clone())),
                ]
            self.bench.forward(prompt)
            for handle in handles:
                handle.remove()
        return kept

    def _sent(self, held: dict[tuple[str, int, str], torch.Tensor]) -> dict[tuple[int, str], torch.Tensor]:
        """What every projection makes of the sender's change alone."""
        size, found, handles = self.bench.shape.head_dim, {}, []
        part = slice(SENDER[1] * size, (SENDER[1] + 1) * size)
        changed = held["corrupt", SENDER[0], "heads"].clone()
        changed[:, self.first :, part] = held["clean", SENDER[0], "heads"][:, self.first :, part]
        for index, layer in enumerate(self.bench.layers):
            heads = changed if index == SENDER[0] else held["corrupt", index, "heads"]
            mlp = held["corrupt", index, "mlp"]
            handles += [
                layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args, value=heads: (value,)),
                layer.mlp.register_forward_hook(lambda _, args, output, value=mlp: value),
            ]
            for name in PARTS:
                projection, at = getattr(layer.self_attn, f"{name[0]}_proj"), (index, name)
                handles.append(projection.register_forward_hook(lambda _, args, output, at=at: found.__setitem__(at, output.clone())))
        self.bench.forward(self.bench.corrupt)
        for handle in handles:
            handle.remove()
        return found


def paths(bench: Bench, reach: float) -> list[Row]:
    """One sender, all receivers."""
    work, count = PathBench(bench), bench.count
    rest = {layer: (bench.shape.layers - 1 - layer) * count.layer(work.first) + count.last_layer(work.first) for layer, _ in work.cells}
    fewest = 2 * count.forward() + sum(rest[layer] for layer, _ in work.cells)
    return [
        measure(
            bench,
            "paths of one head to all, text positions",
            against="full forwards with hooks, first pass shared",
            slow=work.slow(),
            runs=work.runs(),
            reach=reach,
            fewest=fewest,
        )
    ]
