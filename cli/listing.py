"""The verbs that list what plugins and the registry supply. None of them imports torch or loads anything."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.factories import Claim
from vseam_core.plugins import HOOK_RECORDS, LoadedPlugin
from vseam_core.records import EditorRecord, EditPlannerRecord, HeadInterventionRecord, MaskProviderRecord, PluginRecord, TracerRecord
from vseam_core.registry import Listed


@options.verb(example="vseam plugins --json")
@click.pass_obj
def plugins(application: Application) -> None:
    """List plugins, what each supplies, and the broken ones."""
    found = application.plugins
    clashes = found.clashes()
    data = {
        "plugins": [
            {
                "name": plugin.origin.plugin,
                "distribution": plugin.origin.distribution,
                "version": plugin.origin.version,
                "supplies": _supplied(plugin),
            }
            for plugin in found.loaded
        ],
        "broken": [
            {"name": plugin.origin.plugin, "distribution": plugin.origin.distribution, "reason": plugin.reason} for plugin in found.broken
        ],
        "clashes": [
            {"kind": clash.kind, "name": clash.name, "distributions": [origin.distribution for origin in clash.origins]}
            for clash in clashes
        ],
    }
    rows = [
        (plugin.origin.plugin, str(plugin.origin), kind, ", ".join(names))
        for plugin in found.loaded
        for kind, names in (_supplied(plugin) or {"nothing": []}).items()
    ]
    text = "\n".join([*map(str, found.broken), *(f"clash: {clash}" for clash in clashes)])
    application.output.result("plugins/1", data, [Table(("plugin", "from", "supplies", "names"), rows)], text)


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


def _supplied(plugin: LoadedPlugin) -> dict[str, list[str]]:
    """The names a plugin supplies, by kind."""
    supplied = {f"{kind.kind}s": sorted(record.name for record in plugin.records if type(record) is kind) for kind in HOOK_RECORDS.values()}
    return {kind: names for kind, names in supplied.items() if names}


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
