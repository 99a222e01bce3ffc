"""`vseam doctor`: what is checked about a model before its numbers are believed."""

from __future__ import annotations

from typing import Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table

# What each entry of the trust record says, and what it is held against.
_CHECKS: dict[str, str] = {
    "logits_error": "final norm and unembedding against the model's own logits",
    "replay_error": "all layers computed again against the model's own logits",
    "state_noise": "mixers with a state broken off by the library's own cache, against one pass",
    "packed_error": "late starts in the largest batch in use, against the model's own logits",
    "edit_error": "the residual scaled in two layers, everywhere and late, against full passes",
    "noise_floor": "every site replaced by its own value",
    "generator_error": "every site of the decoder that generates replaced by its own value",
    "batch_error": "two prompts in a batch against one",
    "padded_error": "in a batch with a longer prompt, padded, against alone",
    "ablation_effect": "zeroing all heads of a layer moves the answer by",
}


@options.verb("doctor", example="vseam doctor --model llava-tiny\nvseam doctor --model ./my-checkpoint --device cuda --no-drift --json")
@options.use("model", "device", "loading", "memory_budget")
@click.option("--drift/--no-drift", default=True, show_default=True, help="Also measure attention implementations and number formats.")
@click.pass_context
def doctor(context: click.Context, models: tuple[str, ...], device: str | None, drift: bool) -> None:
    """Check that a model can be trusted: exact replay, heads where they are thought to be, batching, padding, rounding.

    The same checks, less the drift, run at the start of every study and are stored with it.
    """
    application: Application = context.obj
    if not models:
        raise click.UsageError("name a model: vseam doctor --model NAME (`vseam models` lists them)")
    application.check_loading(models)
    examined = [_examine(application, name, device, drift) for name in models]
    tables = [table for one in examined for table in _tables(one)]
    notes = "\n".join(note for one in examined for note in _notes(one))
    application.output.result("doctor/1", {"models": examined}, tables, notes)


def _examine(application: Application, name: str, device: str | None, with_drift: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from vseam_core.engine.selfcheck import checked_engine, least_effect

    with application.output.progress() as progress, progress.task(f"checking {name}", 3 if with_drift else 2) as advance:
        model = application.registry.load_model(name, device=device or "auto", **application.loading_of(name))
        advance(1)
        engine, trust = checked_engine(model, application.memory_budget)
        advance(1)
        found: dict[str, Any] = {"model": name, "family": model.info.family, "device": model.info.device, "trust": trust}
        shape = engine.decoder.shape
        found |= {"stack": shape.stack, "layers": shape.layers, "heads": shape.heads, "head_dim": shape.head_dim}
        found |= {"tolerance": trust["tolerance"], "least_effect": least_effect(trust)}
        if with_drift:
            from vseam_core.engine.precision import drift

            found["drift"] = [asdict(entry) for entry in drift(model)]
            advance(1)
    return found


def _tables(found: dict[str, Any]) -> list[Table]:
    trust, tolerance = found["trust"], found["tolerance"]
    rows: list[tuple[object, ...]] = []
    for name, meaning in _CHECKS.items():
        value = trust[name]
        if name in ("state_noise", "generator_error") and value is None:
            continue
        if value is None:
            rows.append(
                (meaning, "not possible", "", "this family cannot be padded" if name == "padded_error" else "no such parts were found")
            )
        elif not value <= tolerance and name in ("batch_error", "logits_error"):
            rows.append(
                (meaning, f"{value:.2g}", f"at most {tolerance:g}", "one prompt at a time" if name == "batch_error" else "no logit lens")
            )
        elif name == "ablation_effect":
            rows.append((meaning, f"{value:.2g}", f"over {found['least_effect']:.2g}", "ok"))
        else:
            rows.append((meaning, f"{value:.2g}", f"at most {tolerance:g}", "ok"))
    title = (
        f"{found['model']}: {trust['attention']}, {trust['dtype']}, {found['device']}, {found['layers']} layers × {found['heads']} heads"
    )
    can = [(one["name"], "yes" if one["holds"] else "no", one["reason"]) for one in trust["capabilities"]]
    tables = [
        Table(("check", "logits", "allowed", ""), rows, title),
        Table(("what it can do", "", "because"), can, f"{found['model']}: what can be done with it"),
    ]
    if "drift" in found:
        drifted = [(entry["attention"], entry["dtype"], _drifted(entry), _same(entry)) for entry in found["drift"]]
        tables.append(Table(("attention", "dtype", "off by (logits)", "same answer"), drifted, f"{found['model']}: drift from float64"))
    return tables


def _drifted(entry: dict[str, Any]) -> str:
    return entry["reason"] if entry["error"] is None else f"{entry['error']:.2g}"


def _same(entry: dict[str, Any]) -> str:
    return "" if entry["same_answer"] is None else "yes" if entry["same_answer"] else "no"


def _notes(found: dict[str, Any]) -> list[str]:
    trust, name = found["trust"], found["model"]
    if trust.get("fallback"):
        reason = next(one["reason"] for one in trust["capabilities"] if one["name"] == "replay")
        return [f"{name}: every run is a full forward pass, because {reason}"]
    if found["stack"] == "encoder":
        return [f"{name}: image and text stand in a bidirectional encoder: replay is exact, and saves only the layers before a change"]
    if trust["recomputed"] is None:
        return []
    if trust["recomputed"] > 0.9:
        return [f"{name}: its words see later words: replay is exact, and saves only the layers before a change"]
    return [f"{name}: an edit of the last ten positions computes {trust['recomputed']:.0%} of the prompt again"]
