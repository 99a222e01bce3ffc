"""The verbs that list what plugins and the registry supply. None of them imports torch or loads anything."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.plugins.loading import Claim
from vseam_core.plugins.registry import Listed
from vseam_core.plugins.specs import EditorRecord, EditPlannerRecord, HeadInterventionRecord, MaskProviderRecord, PluginRecord, TracerRecord


@options.verb(example="vseam editors --json")
@click.pass_obj
def editors(application: Application) -> None:
    """List editors by name."""
    _show_records(application, EditorRecord, "editors")


@options.verb(example="vseam planners --json")
@click.pass_obj
def planners(application: Application) -> None:
    """List what decides which concept an edit changes, by name."""
    _show_records(application, EditPlannerRecord, "planners")


@options.verb(example="vseam masks --json")
@click.pass_obj
def masks(application: Application) -> None:
    """List what finds the pixels that a painter may change, by name."""
    _show_records(application, MaskProviderRecord, "masks")


@options.verb(example="vseam tracers --json")
@click.pass_obj
def tracers(application: Application) -> None:
    """List tracing methods by name."""
    _show_records(application, TracerRecord, "tracers")


@options.verb(example="vseam operations --json")
@click.pass_obj
def operations(application: Application) -> None:
    """List the ways to replace or rescale attention heads by name."""
    _show_records(application, HeadInterventionRecord, "operations")


def show_names(application: Application, name: str, listed: Sequence[Listed], table: Table) -> None:
    entries = [
        {
            "name": item.name,
            "summary": item.summary,
            "plugin": item.plugin,
            "source": item.source or None,
            "origin": item.origin,
            "problem": item.problem or None,
        }
        for item in listed
    ]
    application.output.result(f"{name}/1", {name: entries}, [table])


def _show_records(application: Application, kind: type[PluginRecord], name: str) -> None:
    claims = application.plugins.claims(kind)
    entries = [
        {"name": claim.record.name, "summary": claim.record.summary, "needs": _needs(claim), "origin": str(claim.origin)}
        for claim in claims
    ]
    rows = [(claim.record.name, claim.record.summary, _needs(claim) or "", str(claim.origin)) for claim in claims]
    application.output.result(f"{name}/1", {name: entries}, [Table((kind.kind, "what it does", "needs", "from"), rows)])


def _needs(claim: Claim[PluginRecord]) -> str | None:
    """What to install for a record beyond its distribution: `vseam[diffusion]`, or None."""
    return f"{claim.origin.distribution}[{claim.record.extra}]" if claim.record.extra else None
