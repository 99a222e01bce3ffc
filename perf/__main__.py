"""`python -m perf`: the speed table, printed with the machine and the versions it was measured on."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform

import rich.console
import rich.table
import torch

from perf.engine import Bench, Row, head_scan, tiles, token_wise
from perf.generating import generating
from perf.paths import paths
from perf.recurrent import recurrent
from perf.screening import screening
from perf.shapes import MANY_HEADS, SEVEN_BILLION, SMALL, TILES

_VERSIONS = ("vseam", "torch", "transformers", "nnsight", "vlmprobe", "transformer-lens")


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the 7B shape in bfloat16")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, for the slow way as for ours")
    parser.add_argument("--cells", type=int, default=12, help="how many cells the slow way is timed on")
    parts = ("token-wise", "heads", "tiles", "paths", "screening", "states", "generating")
    parser.add_argument("--only", choices=parts, help="measure one part only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = _on_gpu(options) if options.device.startswith("cuda") else _on_cpu(options)
    _print(rows, options)


def _on_cpu(options: argparse.Namespace) -> list[Row]:
    bench = Bench(SMALL, "cpu", torch.float32, options.cells)
    rows: list[Row] = []
    if options.only in (None, "token-wise"):
        rows += token_wise(bench, 60)
    if options.only in (None, "heads"):
        rows += head_scan(bench, 2, 38)
    if options.only in (None, "tiles"):
        rows += tiles(Bench(TILES, "cpu", torch.float32, options.cells), 0.8)
    if options.only in (None, "paths"):
        rows += paths(bench, 20)
    if options.only in (None, "screening"):
        rows += screening(bench, 6)
        rows += screening(Bench(MANY_HEADS, "cpu", torch.float32, options.cells), 15)
    if options.only in (None, "states"):
        rows += recurrent(options.cells)
    if options.only in (None, "generating"):
        rows += generating(options.cells)
    return rows


def _on_gpu(options: argparse.Namespace) -> list[Row]:
    bench = Bench(SEVEN_BILLION, options.device, torch.bfloat16, options.cells)
    rows: list[Row] = []
    if options.only in (None, "token-wise"):
        rows += token_wise(bench, 45)
    if options.only in (None, "heads"):
        rows += head_scan(bench, 4, None)
    if options.only in (None, "paths"):
        rows += paths(bench, 20)
    if options.only in (None, "screening"):
        rows += screening(bench, 15)
    return rows


def _print(rows: list[Row], options: argparse.Namespace) -> None:
    console = rich.console.Console(width=None if os.isatty(1) else 160)
    accelerator = torch.cuda.get_device_name() if options.device.startswith("cuda") else "no accelerator"
    console.print(f"{platform.platform()}, {platform.processor() or platform.machine()}, {options.threads} thread(s), {accelerator}")
    console.print(", ".join(f"{name} {version}" for name in _VERSIONS if (version := _version(name))))
    table = rich.table.Table("work", "against", "cells", "s per cell", "ours, s", "ratio", "mark", "counted limit", "largest difference")
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.1f}× ({row.ratio / row.limit:.0%} reached)"
        mark = f"≥ {row.reach:.3g}× {'met' if row.ratio >= row.reach else 'MISSED'}"
        difference = "" if row.error is None else f"{row.error:.1e}"
        figures = (str(row.cells), f"{row.slow:.3f}", f"{row.ours:.2f}", f"{row.ratio:.1f}×")
        table.add_row(row.work, row.against, *figures, mark, limit, difference)
    console.print(table)
    for row in rows:
        if row.remark:
            console.print(f"{row.work}: {row.remark}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
