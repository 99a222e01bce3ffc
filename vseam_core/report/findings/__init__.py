"""What a study found, in sentences that its tables carry: each with number, interval and n, and what stays open."""

from vseam_core.report.findings.sentences import Finding, study_findings

__all__ = ["Finding", "study_findings"]
