"""What is in a scene, written down once more for tests: what each patch shows, and a scene graph as GQA has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vseam_plugins.benchmarks.scenes.sprites import COLORS, KINDS, MATERIALS
from vseam_plugins.benchmarks.scenes.world import GRID, IMAGE, PATCHES, Scene, object_box


def patch_labels(scene: Scene) -> NDArray[np.int64]:
    """Kind, colour and material of every vision patch, [36, 3] in row order; 0 is background, else index + 1."""
    grid = np.zeros((GRID, 2, GRID, 2, 3), np.int64)
    for thing in scene.objects:
        label = (KINDS.index(thing.kind) + 1, COLORS.index(thing.color) + 1, MATERIALS.index(thing.material) + 1)
        grid[thing.row, :, thing.column] = label
    return grid.reshape(PATCHES * PATCHES, 3)


def scene_graph(scene: Scene) -> dict[str, object]:
    """The scene in the form of GQA's scene graphs: size, and per object name, box, attributes and relations."""
    objects = {}
    for i, thing in enumerate(scene.objects):
        relations = []
        for k, other in enumerate(scene.objects):
            names = []
            if thing.column != other.column:
                names.append("to the left of" if thing.column < other.column else "to the right of")
            if thing.row != other.row:
                names.append("above" if thing.row < other.row else "below")
            names += [a.name for a in scene.actions if (a.agent, a.patient) == (i, k)]
            relations += [{"name": name, "object": str(k)} for name in names]
        x0, y0, x1, y1 = object_box(scene, i)
        objects[str(i)] = {
            "name": thing.kind, "x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0,
            "attributes": [thing.color, thing.material], "relations": relations,
        }  # fmt: skip
    return {"width": IMAGE, "height": IMAGE, "objects": objects}
