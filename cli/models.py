"""`vseam models`: the models that have a name, and what one of them needs, is, and whether it is here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.listing import show_names
from vseam_cli.output import Table

if TYPE_CHECKING:
    from vseam_core.api.types import ModelDescription

_BYTES = {"float32": 4.0, "float16": 2.0, "8bit": 1.0, "4bit": 0.5}
# Residuals before and after, attention and MLP outputs, head outputs, keys and values of every layer, for both images of a pair.
_ARRAYS_OF_A_LAYER, _PROMPTS_OF_A_PAIR = 7, 2


@options.listing_group("models", example="vseam models --json\nvseam models show llava-1.5-7b")
def models(application: Application) -> None:
    """List models by name; `vseam models show NAME` says what one needs and whether it is here."""
    listed = application.registry.list_models()
    rows = [(item.name, item.source, item.summary or item.problem, item.origin) for item in listed]
    show_names(application, "models", listed, Table(("model", "weights", "what it is", "from"), rows))


@options.verb("show", group=models, example="vseam models show llava-1.5-7b\nvseam models show ./my-checkpoint --json")
@click.argument("name")
@options.use("loading")
@click.pass_obj
def show(application: Application, name: str) -> None:
    """Show what a model needs (parameters, memory, licence), whether it is here, and what its files say. Loads no weights."""
    application.check_loading([name])
    resolved = application.registry.loadable_model(name)
    found = application.registry.describe_model(name, **application.loading_of(name))
    facts = resolved.record.facts
    parameters = (found.parameters if found else None) or (facts.parameters if facts else None)
    data: dict[str, Any] = {
        "name": name,
        "summary": resolved.summary,
        "plugin": resolved.record.name,
        "origin": resolved.origin,
        "source": resolved.options.get("source") or resolved.record.source or ("embedded" if resolved.record.source_factory else None),
        "parameters": parameters,
        "licence": facts.licence if facts else None,
        "gated": facts.gated if facts else None,
        "memory_bytes": {kind: int(size * parameters) for kind, size in _BYTES.items()} if parameters else None,
        "recording_bytes": _recording_bytes(found),
        "here": None if found is None else bool(found.place) and not found.problem,
        "files": asdict(found) if found else None,
    }
    tables = [Table(("what", ""), _rows(data, found), name)]
    if found is not None and found.capabilities:
        can = [(one["name"], "yes" if one["holds"] else "no", one["reason"]) for one in found.capabilities]
        tables.append(Table(("what it can do", "", "because"), can, f"{name}: what its files say; `vseam doctor` checks it"))
    application.output.result("models-show/1", {"model": data}, tables)


def _recording_bytes(found: ModelDescription | None) -> int | None:
    """What the recorded activations of one pair take in float32: a rule of thumb, the engine measures."""
    if found is None or not (found.layers and found.positions and found.width):
        return None
    return _PROMPTS_OF_A_PAIR * _ARRAYS_OF_A_LAYER * found.layers * found.positions * found.width * 4


def _rows(data: dict[str, Any], found: ModelDescription | None) -> list[tuple[str, str]]:
    rows = [
        ("what it is", data["summary"]),
        ("weights", data["source"] or "unknown"),
        ("named by", data["origin"]),
        ("parameters", _count(data["parameters"])),
        ("memory for weights", _memory(data["memory_bytes"])),
        ("licence", data["licence"] or "unknown"),
        ("gated", {True: "yes: accept its licence on the hub and log in (hf auth login)", False: "no", None: "unknown"}[data["gated"]]),
        ("here", _whether_here(found)),
    ]
    return [*rows, *_architecture(data, found)] if found is not None and found.positions else rows


def _architecture(data: dict[str, Any], found: ModelDescription) -> list[tuple[str, str]]:
    from vseam_core.config.bytes import readable_bytes

    width, height = found.image_size
    regions = "yes: a box selects image positions" if found.regions else f"no: {found.regions_reason or 'unknown'}"
    return [
        ("family", found.family),
        ("heads", f"{found.layers} layers × {found.heads} heads of {found.head_dim}, width {found.width} ({found.stack})"),
        ("image positions", f"{found.image_positions} of {found.positions} for an image of {width} × {height}"),
        ("regions", regions),
        ("memory for a pair's recording", f"about {readable_bytes(data['recording_bytes'])} in float32, half in float16"),
        ("prompt", repr(found.template)),
    ]


def _whether_here(found: ModelDescription | None) -> str:
    if found is None:
        return "unknown: its plugin does not say"
    if found.problem:
        return f"no: {found.problem}"
    return f"yes: {found.place}"


def _count(parameters: float | None) -> str:
    if not parameters:
        return "unknown"
    return f"{parameters / 1e9:.2f} billion" if parameters >= 1e8 else f"{parameters / 1e6:.2f} million"


def _memory(sizes: dict[str, int] | None) -> str:
    from vseam_core.config.bytes import readable_bytes

    return ", ".join(f"{readable_bytes(size)} in {kind}" for kind, size in sizes.items()) if sizes else "unknown"
