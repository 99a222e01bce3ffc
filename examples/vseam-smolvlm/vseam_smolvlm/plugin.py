"""What this package registers. Imported whenever vseam starts: it imports nothing heavy."""

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord, EditorRecord, ModelFacts, ModelRecord

PLUGIN_API = 1

_LOAD = "vseam_smolvlm.model:load"


@hookimpl
def vseam_models():
    """A loader for any checkpoint of the family, and the published one under a name."""
    yield ModelRecord(name="smolvlm", summary="loads any SmolVLM or Idefics3 checkpoint", factory=_LOAD)
    yield ModelRecord(
        name="smolvlm-256m-own-prompt",
        summary="SmolVLM, 256 million parameters, asked in this package's prompt",
        factory=_LOAD,
        source="HuggingFaceTB/SmolVLM-256M-Instruct",
        facts=ModelFacts(parameters=256e6, licence="Apache-2.0", gated=False),
    )


@hookimpl
def vseam_datasets():
    """The drawn shapes."""
    yield DatasetRecord(
        name="smolvlm/shapes", summary="drawings, yes/no: is there a red circle?", factory="vseam_smolvlm.shapes:ShapeBenchmark"
    )


@hookimpl
def vseam_editors():
    """The editor that draws a shape again in another colour."""
    yield EditorRecord(
        name="smolvlm-shapes",
        summary="draws the shape of smolvlm/shapes again in another colour",
        factory="vseam_smolvlm.shapes:ShapeEditor",
    )
