"""Registers the built-in interventions on attention heads."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import HeadInterventionRecord

PLUGIN_API = 1

# The summaries go on after "replaces by".
_INTERVENTIONS = (
    ("resample", "ablation:Resample", "the head's output on other images with the same template"),
    ("dataset_mean", "ablation:DatasetMean", "the head's mean per token role over a reference set"),
    ("zero", "ablation:Zero", "zero"),
    ("patch", "ablation:PatchFromPair", "the head's output on the other image of the pair"),
    ("mean_of_others", "ablation:MeanOfOthers", "the mean of the layer's other heads (the published operation)"),
    ("scale", "rescaling:Scale", "the head's own output times a factor"),
)


@hookimpl
def vseam_head_interventions() -> Iterator[HeadInterventionRecord]:
    """What can stand in place of a head's output, and rescaling."""
    for name, factory, summary in _INTERVENTIONS:
        yield HeadInterventionRecord(name=name, summary=f"replaces by {summary}", factory=f"vseam_plugins.heads.{factory}")
