"""What is true of every object of a scene, as integers: the dense supervision that makes training short.

Every field has 0 for "nothing" and index + 1 otherwise. The four action fields name the kind of the partner, so that
"What is the dog pulling?" is one look-up away from the dog.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models.zoo.architectures import CELLS, GRID

KIND_NAMES = tuple(world.KINDS)
COLOR_NAMES = tuple(world.COLORS)
MATERIAL_NAMES = tuple(world.MATERIALS)
_ACTION_FIELDS = {("pulling", "agent"): 5, ("pulling", "patient"): 6, ("carrying", "agent"): 7, ("carrying", "patient"): 8}
FIELD_NAMES = ("kind", "color", "material", "row", "column", "pulls", "pulled_by", "carries", "carried_by")
FIELD_SIZES = tuple(size + 1 for size in (len(KIND_NAMES), len(COLOR_NAMES), len(MATERIAL_NAMES), CELLS, CELLS, *[len(KIND_NAMES)] * 4))
FIELD_WEIGHTS = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def object_table(scene: Any) -> np.ndarray:
    """Describe the objects of a scene: `[objects, fields]`, int64."""
    table = np.zeros((len(scene.objects), len(FIELD_NAMES)), dtype=np.int64)
    for index, item in enumerate(scene.objects):
        table[index, :5] = (
            KIND_NAMES.index(item.kind) + 1,
            COLOR_NAMES.index(item.color) + 1,
            MATERIAL_NAMES.index(item.material) + 1,
            item.row + 1,
            item.column + 1,
        )
    for action in scene.actions:
        table[action.agent, _ACTION_FIELDS[action.name, "agent"]] = table[action.patient, 0]
        table[action.patient, _ACTION_FIELDS[action.name, "patient"]] = table[action.agent, 0]
    return table


def cell_table(scene: Any) -> np.ndarray:
    """Describe the cells of a scene in reading order: `[cells, fields]`, zeros where a cell is empty."""
    cells = np.zeros((CELLS, CELLS, len(FIELD_NAMES)), dtype=np.int64)
    for item, row in zip(scene.objects, object_table(scene), strict=True):
        cells[item.row, item.column] = row
    return cells.reshape(CELLS * CELLS, -1)


def patch_table(cells: np.ndarray) -> np.ndarray:
    """Give each patch the labels of its cell: `[cells, fields]` to `[patches, fields]`."""
    side = GRID // CELLS
    grid = cells.reshape(CELLS, CELLS, -1).repeat(side, axis=0).repeat(side, axis=1)
    return grid.reshape(GRID * GRID, -1)
