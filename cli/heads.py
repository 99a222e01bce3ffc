"""`vseam heads`: score attention heads, ablate and rescale the selected ones, compare heads between tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_core.errors import counted

if TYPE_CHECKING:
    from vseam_cli.stages import Finish
    from vseam_core.config.study import Study
    from vseam_core.results.study_results import StudyMaterial
    from vseam_core.runs.workspace import Workspace

_operation = click.option("--operation", metavar="NAME", help="What heads are replaced by (`vseam operations`; default: resample).")
_positions = click.option(
    "--positions", type=click.Choice(["all", "question", "image", "last"]), help="Where heads are replaced (default: all)."
)
_direction = click.option(
    "--direction",
    type=click.Choice(["noising", "denoising"]),
    help="For patch (default: noising): the edited image's heads into the clean run, or the clean image's into the edited one.",
)


_method = click.option(
    "--method",
    type=click.Choice(["exact", "screen"]),
    help="exact replaces every head (default); screen estimates all heads from gradients and replaces the best and some random ones.",
)
_pool = click.option(
    "--pool",
    "scan_pool",
    type=click.Choice(["score", "choose", "test", "all"]),
    help="The pool whose heads are scanned (default: score, so that the others stay unseen).",
)
_screen_top = click.option(
    "--screen-top",
    type=options.WholeNumber(min=1),
    metavar="K",
    help="With screen: how many of the best heads are replaced, beside a random tenth as many (default: 1 in 40, at least 8).",
)
_integrated_steps = click.option(
    "--integrated-steps",
    type=options.WholeNumber(),
    metavar="M",
    help="With screen: average the gradients over M points between each sample and its donor (default: 0, the sample's own gradient).",
)
_SCAN_OPTIONS = ("operation", "positions", "direction", "method", "screen_top", "integrated_steps", "stack")


@options.verb_group("heads", example="vseam heads scan --model llava-tiny --dataset scenes/color")
def heads() -> None:
    """Score, ablate, rescale and compare attention heads."""


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    shared = options.use("model", "dataset", "limit", "seed", "editor", "device", "loading", "memory_budget", "db", "reports", "thumbnails")
    return shared(_operation(options.use("operation_options")(_positions(_direction(click.pass_context(function))))))


class _Saved(NamedTuple):
    """What is kept of a rescaling: the checkpoint folder, the name, and which one it is."""

    folder: Path | None
    name: str | None
    role: str


def _run(context: click.Context, stages: list[str], schema: str, saved: _Saved | None = None, **given: Any) -> None:
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    database, device, reports = given.pop("database"), given.pop("device"), given.pop("reports")
    models, datasets = list(given.pop("models")), list(given.pop("datasets"))
    how = options.given(options=given.pop("operation_options"), **{name: given.pop(name, None) for name in _SCAN_OPTIONS})
    # Only patch has a direction, so naming one means patch.
    scan = {"operation": "patch" if "direction" in how else "resample", "positions": "all", **how}
    study = study_of(
        application,
        None,
        given.pop("limit"),
        name=f"heads-{stages[-1]}",
        models=models,
        datasets=datasets,
        stages=stages,
        heads=[scan] if how else None,
        ablation={"operations": [_operation_of(scan)]} if "ablate" in stages and {"operation", "options"} & set(how) else None,
        **given,
    )
    finish = _saving(study, saved) if saved and (saved.folder or saved.name) else None
    context.exit(run_stages(application, study, schema, database=database, device=device, reports=reports, finish=finish, about=stages[-1]))


def _operation_of(scan: Mapping[str, Any]) -> dict[str, Any]:
    """The operation of a scan with its options: heads are ablated as they were scanned."""
    return {"name": scan["operation"], "options": scan.get("options", {})}


def _saving(study: Study, saved: _Saved) -> Finish:
    """What keeps a rescaling: as a checkpoint folder, under a name. Raises click.UsageError and VseamError before any work."""
    from vseam_core.experiments.rescaling.checkpoint import fitted_scales, name_rescaling, require_free_folder, save_rescaled_model

    if len(study.models) != 1 or len(study.datasets) != 1:
        option = "--save-model" if saved.folder else "--save-as"
        raise click.UsageError(f"{option} saves one model fitted on one dataset: give exactly one --model and one --dataset")
    (model,), (dataset,) = study.models, study.datasets
    if saved.folder:
        require_free_folder(saved.folder)

    def save(workspace: Workspace, material: StudyMaterial) -> str:
        scales = fitted_scales(material.modulations, model, dataset, saved.role)
        done = []
        if saved.name:
            name_rescaling(workspace, saved.name, material.modulations, model, dataset=dataset, role=saved.role)
            done.append(
                f"the rescaling of {counted(len(scales), 'head')} is called {saved.name}; "
                f"measure it with `vseam eval --rescale {saved.name}`"
            )
        if saved.folder:
            save_rescaled_model(workspace, model, scales, saved.folder, fitted_on=dataset)
            done.append(f"{model} with {counted(len(scales), 'head')} rescaled is in {saved.folder}; use it as `--model {saved.folder}`")
        return "\n".join(done)

    return save


@options.verb(
    "scan",
    group=heads,
    example="vseam heads scan --model llava-tiny --dataset scenes/color --limit 40\n"
    "vseam heads scan --model llava-tiny --dataset scenes/color --operation patch --direction denoising\n"
    "vseam heads scan --model llava-tiny --dataset scenes/color --operation resample --operation-option donors=8\n"
    "vseam heads scan --model llava-tiny --dataset scenes/color --method screen --screen-top 8 --integrated-steps 4\n"
    "vseam heads scan --model llava-tiny --dataset scenes/color --stack vision --operation zero",
)
@_pool
@options.use("stack")
@_method
@_screen_top
@_integrated_steps
@_common
def scan(context: click.Context, **given: Any) -> None:
    """Replace every head in turn and score it: positive heads support right answers, negative ones wrong answers.

    With --method screen most heads are only estimated, and how far the estimates can be relied on is shown: heads that were not
    replaced are never named. Large models take a small part of the time.
    """
    _run(context, ["scan"], "heads-scan/1", **given)


@options.verb("ablate", group=heads, example="vseam heads ablate --model llava-tiny --dataset scenes/color")
@_common
def ablate(context: click.Context, **given: Any) -> None:
    """Ablate the selected heads on the test pool, beside matched random sets; scans first where that is not done yet."""
    _run(context, ["scan", "ablate"], "heads-ablate/1", **given)


@options.verb(
    "rescale",
    group=heads,
    example="""
    vseam heads rescale --model llava-tiny --dataset scenes/color
    vseam heads rescale --model llava-tiny --dataset scenes/color --save-role published --save-as colours
    vseam heads rescale --model llava-tiny --dataset scenes/color --save-role published --save-model checkpoints/llava-tiny-rescaled
    """,
)
@_common
@click.option(
    "--save-model",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the model with the fitted scales in its weights to this new folder, to be used as any --model.",
)
@click.option("--save-as", metavar="NAME", help="Keep the fitted scales in the database under this name, for `vseam eval --rescale NAME`.")
@click.option(
    "--save-role",
    type=click.Choice(["fitted", "published"]),
    default="fitted",
    show_default=True,
    help="Which scales are saved: those chosen on the choose pool (none where leaving all alone was best), or the published recipe's.",
)
def rescale(context: click.Context, save_model: Path | None, save_as: str | None, save_role: str, **given: Any) -> None:
    """Fit head scales on the choose pool and report them on the test pool with their controls."""
    _run(context, ["scan", "rescale"], "heads-rescale/1", _Saved(save_model, save_as, save_role), **given)


@options.verb("shared", group=heads, example="vseam heads shared --model llava-tiny --dataset scenes/color --dataset scenes/action")
@_common
def shared(context: click.Context, **given: Any) -> None:
    """Compare the heads of tasks: overlap against chance and against a task's own ceiling."""
    _run(context, ["scan", "shared"], "heads-shared/1", **given)
