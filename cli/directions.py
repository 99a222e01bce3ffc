"""`vseam directions`: fit directions between yes and no, and answer with them added or taken out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS

if TYPE_CHECKING:
    from vseam_core.experiments.evaluation import Evaluation

_METHOD = "steer"
_FITTED = ("layer", "difference", "probe", "random", "norm", "n_fitted", "n_held_out", "images")
_APPLIED = ("answers", "accuracy", "yes ratio", "gain", "low", "high", "p", "n")


@options.verb_group("directions", example="vseam directions fit --model llava-tiny --dataset scenes/color --out colour.safetensors")
def directions() -> None:
    """Fit directions in activations, and steer answers by them."""


@options.verb(
    "fit",
    group=directions,
    example="""
    vseam directions fit --model llava-tiny --dataset scenes/color --out colour.safetensors
    vseam directions fit --model llava-tiny --dataset scenes/color --site mlp_output --limit 50 --out colour.safetensors
    """,
)
@click.option(
    "--model", required=True, metavar="NAME|FOLDER", envvar="VSEAM_MODEL", help="A model's name (`vseam models`), or a checkpoint."
)
@click.option("--dataset", required=True, metavar="NAME|FILE", envvar="VSEAM_DATASET", help="A dataset of yes/no questions.")
@click.option(
    "--site",
    type=click.Choice(["residual_after", "attention_output", "mlp_output"]),
    default="residual_after",
    show_default=True,
    help="What is read, at the last position, in every layer.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Write the directions there (safetensors).",
)
@options.use("limit", "seed", "editor", "device", "loading", "memory_budget", "db")
@click.pass_context
def fit(
    context: click.Context,
    model: str,
    dataset: str,
    site: Any,
    out: Path,
    limit: int | None,
    seed: int | None,
    editor: str | None,
    device: str | None,
    database: str,
) -> None:
    """Fit the difference of means and a logistic probe on the choose pool, and try them on the test pool.

    Each pair gives an image for yes and one for no. Beside both stands a random direction of the same length.
    """
    from vseam_core.analysis.direction_files import write_directions
    from vseam_core.config.study import default_study
    from vseam_core.experiments.directions import DirectionOptions, fit_directions, summary

    application: Application = context.obj
    choice = application.editor_choice(editor, default_study().editor)
    with application.workspace(database, device, seed or 0) as workspace:
        found = fit_directions(workspace, model, dataset, DirectionOptions(site=site, editor=choice, **options.given(limit=limit)))
    write_directions(out, found.vectors, found.about)
    lines = summary(found.rows)
    title = f"Held-out accuracy of directions between yes and no: {model} on {dataset}, {site}, last position"
    table = Table(_FITTED, [[line.get(name) for name in _FITTED] for line in lines], title)
    data = {"file": str(out), "run": found.run, "about": found.about, "directions": found.rows}
    application.output.result("directions-fit/1", data, [table])
    application.output.note(f"the directions are in {out}; answer with them by `vseam directions apply`")
    for skip in found.skips:
        application.output.note(f"skipped {skip.identifier}: {skip.reason}")
    context.exit(EXIT_DONE_WITH_SKIPS if found.skips else EXIT_DONE)


@options.verb(
    "apply",
    group=directions,
    example="""
    vseam directions apply colour.safetensors --model llava-tiny --dataset scenes/color --layer 3 --strength 2 --limit 100
    vseam directions apply colour.safetensors --model llava-tiny --dataset scenes/color --layer 3 --ablate --kind probe
    """,
)
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--model", required=True, metavar="NAME|FOLDER", envvar="VSEAM_MODEL", help="The model that the directions were fitted to.")
@click.option("--dataset", required=True, metavar="NAME|FILE", envvar="VSEAM_DATASET", help="What is asked (the test pool).")
@click.option("--layer", type=options.WholeNumber(), required=True, metavar="N", help="The layer whose direction is used, in that layer.")
@click.option("--kind", type=click.Choice(["difference", "probe"]), default="difference", show_default=True, help="Which direction.")
@click.option(
    "--strength", type=float, metavar="X", help="How much of it is added (default: 1, the difference of the means; -1 leads to no)."
)
@click.option("--ablate", is_flag=True, help="Take the component along the direction out instead.")
@options.use("limit", "seed", "device", "loading", "memory_budget", "db")
@click.pass_context
def apply(
    context: click.Context,
    file: Path,
    model: str,
    dataset: str,
    layer: int,
    kind: str,
    strength: float | None,
    ablate: bool,
    limit: int | None,
    seed: int | None,
    device: str | None,
    database: str,
) -> None:
    """Answer as the model is, with a direction added or taken out, and with a random one of the same length.

    The direction acts at all positions of the prompt and at every generated one. Gains are over the model as it is, paired by sample.
    """
    from vseam_core.experiments.evaluation import evaluate

    if ablate and strength is not None:
        raise click.UsageError("--ablate takes the direction out altogether: leave out --strength")
    application: Application = context.obj
    how = {"file": str(file), "layer": layer, "ablate": ablate, **options.given(strength=strength)}
    with application.workspace(database, device, seed or 0) as workspace:
        common: dict[str, Any] = {"pool": "test", "limit": limit}
        plain = evaluate(workspace, model, dataset, **common)
        found = {"as it is": plain}
        for name, which in ((kind, kind), ("random direction", "random")):
            given = {**how, "kind": which}
            found[name] = evaluate(workspace, model, dataset, **common, method=_METHOD, method_options=given, compare=plain.run)
    what = "taken out" if ablate else f"times {1.0 if strength is None else strength:g} added"
    title = f"{model} on {dataset} with a direction of layer {layer} {what}"
    rows = [_row(name, each) for name, each in found.items()]
    data = {"file": str(file), "database": database, "runs": {name: each.run for name, each in found.items()}, "answers": rows}
    application.output.result("directions-apply/1", data, [Table(_APPLIED, [[row.get(name) for name in _APPLIED] for row in rows], title)])
    application.output.note(f"every number is in {database}; ask it with `vseam query`")
    context.exit(EXIT_DONE_WITH_SKIPS if any(each.skips for each in found.values()) else EXIT_DONE)


def _row(name: str, evaluation: Evaluation) -> Mapping[str, Any]:
    from vseam_core.analysis.frames import frame_records

    rows = {row["metric"]: row for row in frame_records(evaluation.metrics) if row["subset"] == "all"}
    gain = rows.get("gain", {})
    return {
        "answers": name,
        "accuracy": rows["accuracy"]["value"],
        "yes ratio": rows.get("yes_ratio", {}).get("value"),
        "gain": gain.get("value"),
        "low": gain.get("low"),
        "high": gain.get("high"),
        "p": gain.get("p_value"),
        "n": rows["accuracy"]["n"],
    }
