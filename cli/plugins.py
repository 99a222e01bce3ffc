"""`vseam plugins`: what is installed, and the skeleton of a package of your own."""

from __future__ import annotations

from pathlib import Path

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.plugins.discovery import HOOK_RECORDS, LoadedPlugin

_KINDS = ("model", "benchmark", "editor", "tracer", "head-intervention", "generation-method")


@options.listing_group("plugins", example="vseam plugins --json\nvseam plugins new my-plugin --kind tracer")
def plugins(application: Application) -> None:
    """List plugins, what each supplies, and the broken ones; `vseam plugins new` writes one."""
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


@options.verb("new", group=plugins, example="vseam plugins new my-plugin --kind tracer --kind benchmark")
@click.argument("name")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="What it supplies; may be given again (default: all).")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The folder to write into (default: here)."
)
@click.pass_obj
def new(application: Application, name: str, kinds: tuple[str, ...], output: Path) -> None:
    """Write a working plugin package `vseam-NAME` with tests that inherit the conformance suites. Overwrites nothing."""
    from vseam_core.plugins.scaffold import write_plugin

    files = write_plugin(name, kinds or _KINDS, output)
    root = files[0].parent
    data = {"folder": root, "files": [file.relative_to(root) for file in files]}
    application.output.result("plugins-new/1", data, [Table(("file",), [(str(file.relative_to(root)),) for file in files], str(root))])
    application.output.note(f"install it with `pip install --editable {root}`, then `vseam plugins` lists it and `pytest {root}` tests it")


def _supplied(plugin: LoadedPlugin) -> dict[str, list[str]]:
    """The names a plugin supplies, by kind."""
    supplied = {f"{kind.kind}s": sorted(record.name for record in plugin.records if type(record) is kind) for kind in HOOK_RECORDS.values()}
    return {kind: names for kind, names in supplied.items() if names}
