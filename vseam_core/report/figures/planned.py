"""Which figures a report has: their names, safe as file names, and the functions that draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vseam_core.report.figures.controls import ablation_histograms, rescaling_gains
from vseam_core.report.figures.curves import effect_curves, readout_curves
from vseam_core.report.figures.drawing import pages
from vseam_core.report.figures.head_maps import head_maps, published_head_maps
from vseam_core.report.figures.heat_maps import token_heat_maps, token_heat_page
from vseam_core.report.figures.overlap import overlap_matrices
from vseam_core.report.folders import file_name
from vseam_core.report.head_states import primary_maps
from vseam_core.report.tasks import Task, model_rows, study_tasks, tasks_with_rows
from vseam_core.report.traced import Traced, traced
from vseam_core.results.study_results import HeadMap, StudyMaterial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]
Named = tuple[tuple[str, ...], Draw]


def planned_figures(material: StudyMaterial, every: bool = False) -> list[tuple[str, Draw]]:
    """The name of each figure of a report and the function that draws it; names are unique and safe as file names.

    `every` adds the token maps of single categories, which look much like the page of all categories.
    """
    taken: dict[str, int] = {}
    planned = []
    for words, draw in _figures(material, every):
        name = file_name(*words)
        taken[name] = taken.get(name, 0) + 1
        planned.append((name if taken[name] == 1 else f"{name}_{taken[name]}", draw))
    return planned


def _figures(material: StudyMaterial, every: bool) -> Iterator[Named]:
    tasks = study_tasks(material)
    primary = primary_maps(material)
    for model in material.models:
        claims = {dataset: scan.claims for (name, dataset), scan in primary.items() if name == model}
        for found in traced(material.traces, material.presentations, model):
            yield from _trace_figures(found, material, tasks)
        yield from _head_figures(material, model, tasks)
        if len(model_rows(material.ablations, model)):
            for part in pages(tasks_with_rows(material.ablations, model, tasks)):
                yield ("ablation", model), partial(ablation_histograms, material.ablations, part, model, claims)
        if len(model_rows(material.shared, model)):
            yield ("shared-heads", model), partial(overlap_matrices, material.shared, tasks, model)
        if len(model_rows(material.modulations, model)):
            for part in pages(tasks_with_rows(material.modulations, model, tasks)):
                yield ("rescaling", model), partial(rescaling_gains, material.modulations, part, model, claims)
    for model in material.models if every else ():
        for found in traced(material.traces, material.presentations, model):
            for task in found.tasks(tasks) if found.view == "map" else ():
                yield (found.tracer, model, task.dataset), partial(token_heat_maps, found, material.bands, task)


def _trace_figures(found: Traced, material: StudyMaterial, tasks: Sequence[Task]) -> Iterator[Named]:
    """All tasks of one tracer side by side."""
    for part in pages(found.tasks(tasks)):
        draw: dict[str, Draw] = {
            "map": partial(token_heat_page, found, material.bands, part),
            "curve": partial(effect_curves, found, material.bands, part),
            "readout": partial(readout_curves, found, part),
        }
        yield (found.tracer, found.model), draw[found.view]


def _head_figures(material: StudyMaterial, model: str, tasks: Sequence[Task]) -> Iterator[tuple[tuple[str, ...], Draw]]:
    """One map per operation; the parity operation shows published scores, and claims only where nothing else was scanned."""
    groups = _by_operation([scan for scan in material.heads if scan.model == model])
    for operation, scans in groups:
        for part in pages([task for task in tasks if any(scan.dataset == task.dataset for scan in scans)]):
            maps = [scan for scan in scans if any(scan.dataset == task.dataset for task in part)]
            if not scans[0].replacement.parity or len(groups) == 1:
                yield ("heads", model, operation), partial(head_maps, maps, part, model)
            if scans[0].replacement.parity and any(scan.published is not None for scan in maps):
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
