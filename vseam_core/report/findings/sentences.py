"""The findings of a study: at most ten sentences, in the order in which they matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vseam_core.report.findings.about_answers import evaluation_findings
from vseam_core.report.findings.about_heads import ablation_findings, head_findings, negative_findings, open_heads, sharing_findings
from vseam_core.report.findings.about_traces import curve_findings, token_findings
from vseam_core.report.findings.wording import Finding
from vseam_core.results.study_results import StudyMaterial

MOST_SENTENCES = 10
__all__ = ["Finding", "study_findings"]

_Make = Callable[[StudyMaterial], list[Finding]]
# What is said, and at most how often: heads first, since they are what most questions are about.
_KINDS: Sequence[tuple[_Make, int]] = (
    (evaluation_findings, MOST_SENTENCES),
    (head_findings, 4),
    (token_findings, 2),
    (curve_findings, 1),
    (ablation_findings, 1),
    (negative_findings, 1),
    (sharing_findings, 1),
    (open_heads, 2),
)


def study_findings(material: StudyMaterial) -> list[Finding]:
    """The sentences of a study. Each rests on rows of its tables alone; where nothing was found or resolved, that is said."""
    found = [finding for make, most in _KINDS for finding in make(material)[:most]]
    kept = found[:MOST_SENTENCES]
    said_open = [finding for finding in found if finding.kind == "open"]
    if said_open and not any(finding.kind == "open" for finding in kept):
        kept[-1] = said_open[0]
    return kept
