"""Writes a study's report: every figure as PNG, and a page with the tables and the figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vseam_core.errors import VseamError
from vseam_core.report.figures.curves import curve_tasks, group_curves, region_curves
from vseam_core.report.figures.figures import caption_of, pages, save_figure, title_of
from vseam_core.report.figures.head_maps import head_maps, published_head_maps
from vseam_core.report.figures.head_states import primary_maps
from vseam_core.report.figures.heat_maps import heat_map_tasks, token_heat_maps, token_heat_page
from vseam_core.report.figures.overlap import overlap_matrices
from vseam_core.report.page import Picture, report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.report.tables.controls import ablation_histograms, rescaling_gains
from vseam_core.report.tasks import Task, model_rows, study_tasks, tasks_with_rows
from vseam_core.report.words import PARITY_OPERATION
from vseam_core.results.study_results import HeadMap, StudyMaterial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "index.html"
Draw = Callable[[], "Figure"]


def write_report(material: StudyMaterial, directory: Path) -> list[Path]:
    """Write all figures and `index.html` into `directory`, made if it is missing; what was written, the page last.

    Figures of stages that the study left out are left out. Files of the same name are replaced, others stay. Raises `VseamError`
    where something cannot be written.
    """
    pictures, written = [], []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, draw in planned_figures(material):
            path = directory / f"{name}.png"
            figure = draw()
            save_figure(figure, path)
            pictures.append(Picture(path.name, title_of(figure), caption_of(figure)))
            written.append(path)
        page = directory / PAGE
        page.write_text(report_page(material.name, closing_tables(material), pictures, material.notes), encoding="utf-8")
    except OSError as error:
        raise VseamError(
            f"report: cannot write {error.filename or directory}: {error.strerror or error}; name another folder or make room"
        ) from error
    return [*written, page]


def planned_figures(material: StudyMaterial) -> list[tuple[str, Draw]]:
    """The name of every figure of a report and the function that draws it; names are unique and safe as file names."""
    taken: dict[str, int] = {}
    planned = []
    for words, draw in _figures(material):
        name = file_name(*words)
        taken[name] = taken.get(name, 0) + 1
        planned.append((name if taken[name] == 1 else f"{name}_{taken[name]}", draw))
    return planned


def file_name(*words: str) -> str:
    """Words joined to a file name without separators or anything else a file system could mind."""
    safe = (re.sub(r"[^A-Za-z0-9.@-]+", "-", word).strip("-.") or "unnamed" for word in words)
    return "_".join(safe)


def _figures(material: StudyMaterial) -> Iterator[tuple[tuple[str, ...], Draw]]:
    tasks = study_tasks(material)
    primary = primary_maps(material)
    for model in material.models:
        claims = {dataset: scan.claims for (name, dataset), scan in primary.items() if name == model}
        yield from _trace_figures(material, model, tasks)
        yield from _head_figures(material, model, tasks)
        if len(model_rows(material.ablations, model)):
            for part in pages(tasks_with_rows(material.ablations, model, tasks)):
                yield ("ablation", model), partial(ablation_histograms, material.ablations, part, model, claims)
        if len(model_rows(material.shared, model)):
            yield ("shared-heads", model), partial(overlap_matrices, material.shared, tasks, model)
        if len(model_rows(material.modulations, model)):
            for part in pages(tasks_with_rows(material.modulations, model, tasks)):
                yield ("rescaling", model), partial(rescaling_gains, material.modulations, part, model, claims)
    for model in material.models:
        for task in heat_map_tasks(material.traces, model, tasks):
            yield ("tokens", model, task.dataset), partial(token_heat_maps, material.traces, material.bands, task, model)


def _trace_figures(material: StudyMaterial, model: str, tasks: Sequence[Task]) -> Iterator[tuple[tuple[str, ...], Draw]]:
    traces, bands = material.traces, material.bands
    for part in pages(heat_map_tasks(traces, model, tasks)):
        yield ("tokens", model), partial(token_heat_page, traces, bands, part, model)
    for part in pages(curve_tasks(traces, model, tasks, "groups")):
        yield ("groups", model), partial(group_curves, traces, bands, part, model)
    for part in pages(curve_tasks(traces, model, tasks, "regions")):
        yield ("regions", model), partial(region_curves, traces, bands, part, model)


def _head_figures(material: StudyMaterial, model: str, tasks: Sequence[Task]) -> Iterator[tuple[tuple[str, ...], Draw]]:
    """One map per operation; the parity operation shows published scores, and claims only where nothing else was scanned."""
    groups = _by_operation([scan for scan in material.heads if scan.model == model])
    for operation, scans in groups:
        for part in pages([task for task in tasks if any(scan.dataset == task.dataset for scan in scans)]):
            maps = [scan for scan in scans if any(scan.dataset == task.dataset for task in part)]
            if operation != PARITY_OPERATION or len(groups) == 1:
                yield ("heads", model, operation), partial(head_maps, maps, part, model)
            if operation == PARITY_OPERATION and any(scan.published is not None for scan in maps):
                yield ("published-scores", model), partial(published_head_maps, maps, part, model)


def _by_operation(scans: Sequence[HeadMap]) -> list[tuple[str, list[HeadMap]]]:
    """Scans of one operation together; where a dataset was scanned twice (at other positions), the second begins another group."""
    groups: list[tuple[str, list[HeadMap]]] = []
    for scan in scans:
        free = (
            members
            for operation, members in groups
            if operation == scan.operation and all(member.dataset != scan.dataset for member in members)
        )
        found = next(free, None)
        if found is None:
            groups.append((scan.operation, [scan]))
        else:
            found.append(scan)
    return groups
