"""Datasets without a registry: a table of pandas', a list of records or samples, a file, a benchmark object."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.errors import VseamError

if TYPE_CHECKING:
    from vseam_core.api.interfaces import Benchmark
    from vseam_core.runs.workspace import Workspace

OWN = "records"
"""What a dataset of somebody's own rows is called, unless it is given a name."""


def dataset_name(workspace: Workspace, dataset: Any, images: str | Path | None = None, name: str = OWN) -> str:
    """The name that a dataset goes by in a workspace.

    `dataset` is a registered name, a file of questions (CSV, JSON, JSON lines, parquet), a DataFrame, a list of records (mappings) or of
    samples, or a benchmark. `images` is the folder of images that a file or rows name. Raises `VseamError` for anything else.
    """
    from vseam_core.api.interfaces import Benchmark

    if isinstance(dataset, Benchmark):
        return workspace.give_benchmark(dataset)
    if isinstance(dataset, (str, Path)):
        return str(dataset) if images is None and not isinstance(dataset, Path) else _of_file(workspace, Path(dataset), images)
    return workspace.give_benchmark(_of_rows(dataset, images, name))


def _of_file(workspace: Workspace, path: Path, images: str | Path | None) -> str:
    if not path.exists():
        raise VseamError(f"{path}: no such file of questions")
    from vseam_plugins.benchmarks.table import TableBenchmark

    return workspace.give_benchmark(TableBenchmark(path.stem, questions=path, images=None if images is None else str(images)))


def _of_rows(rows: Any, images: str | Path | None, name: str) -> Benchmark:
    from vseam_core.api.types import Sample
    from vseam_core.datasets.given_samples import GivenSamples
    from vseam_plugins.benchmarks.table import TableBenchmark

    found = list(rows.to_dict("records") if hasattr(rows, "to_dict") else rows if isinstance(rows, Iterable) else [None])
    if not found:
        raise VseamError("the dataset has no rows")
    if all(isinstance(row, Sample) for row in found):
        return GivenSamples(name, found)
    if not all(isinstance(row, Mapping) for row in found):
        raise VseamError(f"expected a dataset as a name, a file, a DataFrame, or a list of records or samples; got {type(rows).__name__}")
    records = [{str(key): _plain(value, number) for key, value in row.items()} for number, row in enumerate(found)]
    return TableBenchmark(name, rows=records, images=None if images is None else str(images))


def _plain(value: Any, number: int) -> Any:
    """A field as the table benchmark takes it; images of Pillow's and arrays of pixels become PNG, paths become text."""
    from PIL import Image as images

    from vseam_core.datasets.images import image_source

    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, images.Image) and getattr(value, "ndim", 0) != 3:
        return value
    content = io.BytesIO()
    image_source(value).load().save(content, format="PNG")
    return {"bytes": content.getvalue(), "path": f"row-{number}"}
