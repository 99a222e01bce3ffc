"""The verbs that list what plugins and the registry supply. None of them imports torch or loads anything."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.plugins.loading import Registration
from vseam_core.plugins.records import (
    EditorRecord,
    EditPlannerRecord,
    HeadInterventionRecord,
    MaskProviderRecord,
    PluginRecord,
    TracerRecord,
)
from vseam_core.plugins.registry import Listed


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
    registrations = application.plugins.registrations(kind)
    entries = [
        {
            "name": item.record.name,
            "summary": _summary(item.record),
            "needs": _needs(item),
            "origin": str(item.origin),
        }
        for item in registrations
    ]
    rows = [(item.record.name, _summary(item.record), _needs(item) or "", str(item.origin)) for item in registrations]
    application.output.result(f"{name}/1", {name: entries}, [Table((kind.kind, "what it does", "needs", "from"), rows)])


def _summary(record: PluginRecord) -> str:
    return f"{record.summary} (experimental)" if record.experimental else record.summary


def _needs(registration: Registration[PluginRecord]) -> str | None:
    """What to install for a record beyond its distribution: `vseam[diffusion]`, or None."""
    return f"{registration.origin.distribution}[{registration.record.extra}]" if registration.record.extra else None
