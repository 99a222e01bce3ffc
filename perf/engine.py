"""Token-wise patching and head scans, ours against full forward passes.

Ratios in one process, on one model and one pair of images. The slow way is timed on some cells, spread over the layers, and
multiplied by their number; ours is timed whole, recordings included. Each sampled cell is also compared with ours.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from perf.counting import Counter
from perf.others import nnsight_patch, transformer_lens_patch, vlmprobe_patch
from perf.shapes import ANSWER, RandomLlava, Shape, image
from vseam_core.api.interventions import AnswerScore, MeanOfOthers, Patch, Run, Site, SiteEdit
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.config.bytes import readable_bytes
from vseam_core.engine.memory import PeakMemory
from vseam_core.engine.recording import ALWAYS, record
from vseam_core.engine.replay import ReplayEngine

Cell = Callable[[int, int], torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the table: seconds per cell the slow way and number of cells, our seconds for all, the mark and the limit."""

    work: str
    against: str
    cells: int
    slow: float
    ours: float
    reach: float
    limit: float | None
    error: float | None
    remark: str = ""

    @property
    def ratio(self) -> float:
        """The slow way's time over ours."""
        return self.slow * self.cells / self.ours


class Bench:
    """One model with a pair of images, and the slow ways to patch it."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype, sampled: int):
        self.shape, self.sampled = shape, sampled
        self.model = RandomLlava(shape, device, dtype)
        self.layers: Any = self.model.module.model.language_model.layers
        self.clean, self.corrupt = (self.model.encode(image(seed), "Is the dog red?") for seed in (0, 1))
        self.length = len(self.corrupt)
        self.text = range(self.length - shape.text_positions, self.length)
        self.count = Counter(shape)
        self.donors: list[torch.Tensor] = []
        self.embeddings = torch.zeros(0)

    def mixer(self, layer: int) -> Any:
        """What mixes positions in a layer: its attention, or what carries a state in its place."""
        found = self.layers[layer]
        return found.self_attn if hasattr(found, "self_attn") else found.linear_attn

    def record(self) -> None:
        """What the slow ways patch in: the clean image's attention outputs."""
        kept: dict[int, torch.Tensor] = {}
        handles = [
            self.mixer(index).register_forward_hook(lambda _, args, output, index=index: kept.__setitem__(index, _first(output).clone()))
            for index in range(self.shape.layers)
        ]
        handles.append(self.layers[0].register_forward_pre_hook(lambda _, args: setattr(self, "embeddings", args[0].clone())))
        self.forward(self.clean)
        for handle in handles:
            handle.remove()
        self.donors = [kept[index] for index in range(self.shape.layers)]

    @torch.no_grad()
    def forward(self, prompt: EncodedPrompt) -> torch.Tensor:
        """The logits of one full forward pass, image encoded again."""
        return self.model.module(**self.model.collate([prompt]), use_cache=False).logits[0, -1]  # type: ignore[no-any-return]

    def patch(self, layer: int, position: int) -> torch.Tensor:
        """The obvious way: a full forward pass with a hook that patches one position."""

        def hook(_: Any, args: Any, output: Any) -> Any:
            value = _first(output).clone()
            value[:, position] = self.donors[layer][:, position]
            return (value, *output[1:]) if isinstance(output, tuple) else value

        handle = self.mixer(layer).register_forward_hook(hook)
        try:
            return self.forward(self.corrupt)
        finally:
            handle.remove()

    def head(self, positions: slice) -> Cell:
        """The published way: the image processed and encoded for every head, which is set to the mean of the others."""
        heads = self.shape.heads

        def cell(layer: int, head: int) -> torch.Tensor:
            def hook(_: Any, args: Any) -> Any:
                value = args[0].clone()
                split = value.view(1, self.length, heads, -1)
                others = [other for other in range(heads) if other != head]
                split[:, positions, head] = split[:, positions, others].mean(2)
                return (value,)

            mixer = self.mixer(layer)
            projection = mixer.o_proj if hasattr(mixer, "o_proj") else mixer.out_proj
            handle = projection.register_forward_pre_hook(hook)
            try:
                return self.forward(self.model.encode(image(1), "Is the dog red?"))
            finally:
                handle.remove()

        return cell

    def patches(self) -> dict[tuple[int, int], Run]:
        """Every layer × text position, as runs."""
        return {
            (layer, position): self.run(SiteEdit(Site(layer, "attention_output"), Patch(), (position,)))
            for layer, position in itertools.product(range(self.shape.layers), self.text)
        }

    def heads(self, positions: Sequence[int] | None) -> dict[tuple[int, int], Run]:
        """Every layer × head, as runs."""
        where = None if positions is None else tuple(positions)
        return {
            (layer, head): self.run(SiteEdit(Site(layer, "head_output", head), MeanOfOthers(), where))
            for layer, head in itertools.product(range(self.shape.layers), range(self.shape.heads))
        }

    def run_unchanged(self) -> Run:
        """The corrupt image, nothing changed."""
        return Run(self.corrupt, (AnswerScore(ANSWER),))

    def run(self, edit: SiteEdit) -> Run:
        """A run on the corrupt image with the clean one as donor."""
        return Run(self.corrupt, (AnswerScore(ANSWER),), (edit,), self.clean)


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long the work takes, and what it yields; waits for an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def spread(cells: Sequence[tuple[int, int]], number: int) -> list[tuple[int, int]]:
    """Some of the cells, evenly over all of them."""
    step = max(1, len(cells) // number)
    return list(cells)[step // 2 :: step]


def measure(bench: Bench, work: str, against: str, slow: Cell, runs: dict[tuple[int, int], Run], reach: float, fewest: float | None) -> Row:
    """Time some cells the slow way and all of them ours, on a fresh engine, and compare the numbers."""
    cells = list(runs)
    slow(*cells[0])
    chosen = spread(cells, bench.sampled)
    times = [seconds(partial(slow, *cell)) for cell in chosen]
    # A small run first: what a process does once (kernels chosen, caches filled) is no part of either.
    ReplayEngine(bench.model).run([runs[cells[-1]]])
    ours, results = seconds(lambda: ReplayEngine(bench.model).run(list(runs.values())))
    values = dict(zip(cells, results, strict=True))
    errors = []
    for cell, (_, logits) in zip(chosen, times, strict=True):
        expected = float(logits[20].double() - logits[21].double())
        errors.append(abs(values[cell].answer.logit_diff - expected))
    per_cell = sum(time for time, _ in times) / len(times)
    limit = None if fewest is None else len(cells) * bench.count.forward() / fewest
    return Row(work=work, against=against, cells=len(cells), slow=per_cell, ours=ours, reach=reach, limit=limit, error=max(errors))


def token_wise(bench: Bench, reach: float, others: bool = True) -> list[Row]:
    """Token-wise patching of attention outputs, against plain hooks and other libraries."""
    bench.record()
    runs = bench.patches()
    fewest = 2 * bench.count.forward() + sum(bench.count.patch(*cell) for cell in runs)
    rows = [
        measure(
            bench,
            "token-wise attention patching",
            against="full forwards with hooks, batch 1",
            slow=bench.patch,
            runs=runs,
            reach=reach,
            fewest=fewest,
        )
    ]
    if not others:
        return rows
    inputs = {**bench.model.collate([bench.corrupt]), "use_cache": False}
    for name, mark, cell in (
        ("nnsight", 45, nnsight_patch(bench.model, inputs, bench.donors)),
        ("vlmprobe", 45, vlmprobe_patch(bench.model, inputs, bench.donors)),
        ("TransformerLens (no vision)", 100, transformer_lens_patch(bench.model, bench.embeddings, bench.donors)),
    ):
        if cell is None:
            continue
        cell(0, bench.text[0])
        times = [seconds(partial(cell, *at))[0] for at in spread(list(runs), bench.sampled)]
        rows.append(
            Row(
                work="the same sweep",
                against=name,
                cells=len(runs),
                slow=sum(times) / len(times),
                ours=rows[0].ours,
                reach=mark,
                limit=None,
                error=None,
            )
        )
    return rows


def tiles(bench: Bench, share: float) -> list[Row]:
    """Token-wise patching beside an image of many tiles: the mark is a share of the counted limit; memory beside one recording."""
    (row,) = token_wise(bench, 0, others=False)
    engine = ReplayEngine(bench.model)
    with PeakMemory(bench.model.device) as peak:
        engine.run(list(bench.patches().values()))
    recording = record(bench.model, engine.decoder, bench.corrupt, ALWAYS, keys=True).bytes
    assert row.limit is not None
    remark = f"at most {readable_bytes(peak.bytes)} beside the model, {peak.bytes / recording:.2f} × one recording (mark ≤ 1.5 ×)"
    return [replace(row, work=f"{row.work}, {bench.shape.image_positions} image positions", reach=share * row.limit, remark=remark)]


def head_scan(bench: Bench, everywhere: float | None, on_text: float | None) -> list[Row]:
    """The exact head scan, all positions and text positions (each where it has a mark), against the published way."""
    count, rows = bench.count, []
    if everywhere is not None:
        runs = bench.heads(None)
        fewest = count.forward() + sum(count.head(layer, 0) for layer, _ in runs)
        slow = bench.head(slice(None))
        rows.append(
            measure(bench, "head scan, all positions", against="published way", slow=slow, runs=runs, reach=everywhere, fewest=fewest)
        )
    if on_text is not None:
        runs = bench.heads(bench.text)
        fewest = count.forward() + sum(count.head(layer, bench.text[0]) for layer, _ in runs)
        slow = bench.head(slice(bench.text[0], None))
        rows.append(
            measure(bench, "head scan, text positions", against="published way", slow=slow, runs=runs, reach=on_text, fewest=fewest)
        )
    return rows
