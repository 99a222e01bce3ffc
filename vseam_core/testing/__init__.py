"""What plugin authors test with: conformance suites to inherit, and a tiny real vision-language model.

    from vseam_core.testing import TracerConformance

    class TestWindows(TracerConformance):
        def make(self):
            return WindowPatching(width=3)

Run it with pytest. Each test is one promise of the interface; where it is broken, the failure says which. Nothing here needs weights, a
network or pytest itself to be imported.
"""

from __future__ import annotations

from vseam_core.testing.benchmarks import BenchmarkConformance
from vseam_core.testing.edited_images import EditedImagesConformance
from vseam_core.testing.editing import EditorConformance, EditPlannerConformance, MaskProviderConformance, PainterConformance
from vseam_core.testing.generation import GenerationMethodConformance
from vseam_core.testing.methods import HeadInterventionConformance, TracerConformance
from vseam_core.testing.models import ModelConformance
from vseam_core.testing.promises import promise

__all__ = [
    "BenchmarkConformance",
    "EditPlannerConformance",
    "EditedImagesConformance",
    "EditorConformance",
    "GenerationMethodConformance",
    "HeadInterventionConformance",
    "MaskProviderConformance",
    "ModelConformance",
    "PainterConformance",
    "TracerConformance",
    "promise",
]
