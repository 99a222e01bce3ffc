"""`vseam paths`: path patching from senders to receivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS

_TRACER = "paths"


@options.verb(
    "paths",
    example="""
    vseam paths --model llava-tiny --dataset scenes/color --to logits
    vseam paths --model llava-tiny --dataset scenes/color --from L1H2 --to "L*H*.q" --to "L*.mlp"
    vseam paths --model llava-tiny --dataset scenes/color --from "L*H*" --to L4H5.v --positions image
    vseam paths --model llava-tiny --dataset scenes/color --from L5H3+L5H5 --to logits --direction noising
    vseam paths --model llava-tiny --dataset scenes/color --method screen --limit 20
    """,
)
@options.use("model", "dataset")
@click.option(
    "--from",
    "senders",
    multiple=True,
    metavar="SENDER",
    help="A head (L1H2), L1.mlp, L1.attention or embeddings; * for every layer or head; several that change together joined by +; may be "
    "given again (default: L*H*).",
)
@click.option(
    "--to",
    "receivers",
    multiple=True,
    metavar="RECEIVER",
    help="A head (L4H5), its query, key or value (L4H5.q, .k, .v), L4.mlp or logits; may be given again (default: logits).",
)
@click.option("--positions", type=click.Choice(["all", "image", "question", "last"]), help="Where senders change (default: all positions).")
@click.option(
    "--direction",
    "directions",
    type=click.Choice(["denoising", "noising"]),
    multiple=True,
    help="denoising: the clean image's activation in the run on the edited one; noising: the reverse (default: both).",
)
@click.option("--through-mlps", is_flag=True, help="Compute the MLPs between both ends from what reaches them; else they are held too.")
@click.option(
    "--method",
    type=click.Choice(["exact", "screen"]),
    default="exact",
    show_default=True,
    help="exact patches the paths that --from and --to name; screen estimates all paths from gradients and patches the best and some "
    "random ones.",
)
@click.option(
    "--screen-top",
    type=options.WholeNumber(min=1),
    metavar="K",
    help="With screen: how many of the best paths are patched, beside a random tenth as many (default: 1 in 40, at least 8).",
)
@click.option(
    "--integrated-steps",
    type=options.WholeNumber(),
    metavar="M",
    help="With screen: average the gradients over M points between the two images (default: 5; 0: the run's own gradient).",
)
@click.option(
    "--pool",
    type=click.Choice(["score", "choose", "test", "all"]),
    help="The pool whose pairs are traced (default: score, so that the others stay unseen).",
)
@options.use("limit", "seed", "editor", "device", "loading", "memory_budget", "db", "reports", "thumbnails")
@click.pass_context
def paths(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    senders: tuple[str, ...],
    receivers: tuple[str, ...],
    positions: str | None,
    directions: tuple[str, ...],
    through_mlps: bool,
    method: str,
    screen_top: int | None,
    integrated_steps: int | None,
    pool: str | None,
    limit: int | None,
    seed: int | None,
    editor: str | None,
    device: str | None,
    database: str,
    reports: str,
) -> None:
    """Patch paths: the other image's output of a sender goes to a receiver alone, everything between is held.

    Exact, for every pair of a dataset: a table of the strongest paths, and maps of all in the page. The same as
    `vseam trace --tracer paths`; docs/paths.md says what is held and what is computed.
    """
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    if method == "screen":
        if senders or receivers or through_mlps or len(directions) > 1:
            raise click.UsageError("--method screen goes over all paths in one direction: leave out --from, --to and --through-mlps")
        how = options.given(positions=positions, pool=pool, limit=limit, top=screen_top, direction=next(iter(directions), None)) | (
            {} if integrated_steps is None else {"integrated_steps": integrated_steps}
        )
        context.exit(_screen(application, models, datasets, how, editor=editor, seed=seed, database=database, device=device))
    if screen_top is not None or integrated_steps is not None:
        raise click.UsageError("--screen-top and --integrated-steps belong to --method screen")
    ends: dict[str, Any] = options.given(
        senders=list(senders),
        receivers=list(receivers),
        positions=positions,
        directions=list(directions),
        through_mlps=through_mlps or None,
    )
    study = study_of(
        application,
        None,
        limit,
        name=_TRACER,
        models=list(models),
        datasets=list(datasets),
        tracers=[{"name": _TRACER, "options": ends}],
        trace_pool=pool,
        random_models=0,
        seed=seed,
        editor=editor,
        stages=["trace"],
    )
    context.exit(run_stages(application, study, "paths/1", database=database, device=device, reports=reports))


def _screen(
    application: Application,
    models: Sequence[str],
    datasets: Sequence[str],
    how: Mapping[str, Any],
    *,
    editor: str | None,
    seed: int | None,
    database: str,
    device: str | None,
) -> int:
    """Screen the paths of every model on every dataset; the exit code."""
    from vseam_core.config.study import default_study
    from vseam_core.experiments.edges import EdgeOptions, run_edge_screening
    from vseam_core.report.tables.edges import edge_tables

    if not models or not datasets:
        raise click.UsageError("name a --model and a --dataset")
    choice = application.editor_choice(editor, default_study().editor)
    application.check_loading(models)
    found, skips = {}, 0
    with application.workspace(database, device, seed or 0) as workspace:
        for model in models:
            for dataset in datasets:
                screening = run_edge_screening(workspace, model, dataset, EdgeOptions(editor=choice, **how))
                found[model, dataset] = screening
                skips += len(screening.outcome.skips)
    tables = edge_tables({task: (one.edges, one.agreement) for task, one in found.items()})
    data = {
        "study": _TRACER,
        "database": database,
        "findings": [],
        "tables": [asdict(table) for table in tables],
        "notes": [],
        "figures": [],
    }
    application.output.result("paths/1", data, [Table(each.columns, each.rows, "\n".join((each.title, *each.notes))) for each in tables])
    application.output.note(f"every number is in {database}; ask it with `vseam query`")
    return EXIT_DONE_WITH_SKIPS if skips else EXIT_DONE
