"""`vseam compare`: ways to generate answers beside one another, on the same samples, against a plain yes/no threshold too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.eval import BatchType, LimitType
from vseam_cli.output import Table
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS

if TYPE_CHECKING:
    from vseam_core.experiments.comparing.comparison import Compared, Comparison

SCHEMA = "compare/1"


@options.verb(
    "compare",
    example="vseam compare --model llava-tiny-skewed --dataset scenes-skewed/color --split hard --methods none,vcd,pai --limit 100\n"
    "vseam compare --model llava-tiny --dataset scenes/color --methods rescale:colours,vcd --method-option vcd:alpha=0.5\n"
    "vseam compare --model llava-tiny --dataset scenes/color --methods redirect,redirect:random --method-option heads=L1H2+L4H5\n"
    "vseam compare --model llava-1.5-7b --dataset pope/adversarial --methods none,rescale:NAME,vcd,pai,mitigv:opera --latex",
)
@options.use("model", "dataset")
@click.option(
    "--methods",
    default="none,vcd,pai",
    show_default=True,
    metavar="NAMES",
    help="What is compared: none, rescale:NAME, ablate:L5H3+L4H1, and names of `vseam methods`, with commas between them.",
)
@options.use("method_options")
@click.option("--split", metavar="NAME", help="The split of the dataset (default: its first).")
@click.option(
    "--choose", type=options.WholeNumber(min=1), default=100, show_default=True, metavar="N", help="Samples to choose settings on."
)
@click.option(
    "--limit", type=LimitType(), metavar="N|SHARE", envvar="VSEAM_LIMIT", help="At most N test samples, or a share such as 0.1 or 10%."
)
@click.option(
    "--timed", type=options.WholeNumber(), default=8, show_default=True, metavar="N", help="Test samples that are timed (0: none)."
)
@options.use("seed")
@click.option("--batch-size", type=BatchType(), default="auto", show_default=True, metavar="auto|N", help="Prompts run together, at most.")
@click.option("--max-new-tokens", type=options.WholeNumber(min=1), default=16, show_default=True, metavar="N", help="The longest answer.")
@options.use("device", "loading", "memory_budget", "db")
@click.pass_context
def compare(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    methods: str,
    method_options: dict[str, dict[str, Any]],
    seed: int | None,
    database: str,
    device: str | None,
    **given: Any,
) -> None:
    """Compare ways to generate answers: accuracy, gains paired by image, yes-ratio, F1, seconds and forward passes per answer.

    Options that a method leaves open are chosen on the dataset's choose pool and reported on its test pool, which share no image. Beside
    every method stands the control: the unchanged model with a threshold on logit(yes) - logit(no). A run that was stopped goes on where
    it was.
    """
    from vseam_core.experiments.comparing.methods import method_choices
    from vseam_core.experiments.comparing.run import CompareOptions, compare_methods

    application: Application = context.obj
    if not models or not datasets:
        raise click.UsageError("give at least one --model and one --dataset")
    choices = method_choices(application.plugins, _named(methods, method_options))
    for name in models:
        application.registry.loadable_model(name)
    for name in datasets:
        application.registry.dataset(name)
    application.check_loading(list(models))
    size = given["batch_size"]
    wanted = CompareOptions(
        split=given["split"],
        choose=given["choose"],
        test=given["limit"],
        max_new_tokens=given["max_new_tokens"],
        batch_size=None if size == "auto" else size,
        timed=given["timed"],
    )
    found = []
    with application.workspace(database, device, seed) as workspace:
        for warning in workspace.store.warnings:
            application.output.note(warning)
        for model in models:
            found += [compare_methods(workspace, model, dataset, choices, wanted) for dataset in datasets]
            workspace.release(model)
    _tell(application, found, database)
    incomplete = any(row.skips or row.refused for each in found for row in each.rows)
    context.exit(EXIT_DONE_WITH_SKIPS if incomplete else EXIT_DONE)


def _named(methods: str, method_options: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The methods with their options. Raises `click.UsageError` for options of a method that is not among them."""
    from vseam_core.config.study_methods import NONE
    from vseam_core.experiments.comparing.methods import NamedMethod

    names = [name.strip() for name in methods.split(",") if name.strip()]
    strange = [owner for owner in method_options if owner and owner not in names]
    if strange:
        raise click.UsageError(f"--method-option {strange[0]}:…: {strange[0]!r} is not among --methods {', '.join(names)}")
    shared = method_options.get("", {})
    return [NamedMethod(name, {**(shared if name != NONE else {}), **method_options.get(name, {})}) for name in names]


def _tell(application: Application, found: Sequence[Comparison], database: str) -> None:
    data = {"database": database, "comparisons": [_as_data(each) for each in found]}
    application.output.result(SCHEMA, data, [table for each in found for table in tables(each)])
    for each in found:
        for row in each.rows:
            if row.skips:  # why a method was not measured was said when it was found
                application.output.note(f"{row.method}: {row.skips} samples skipped (table `skips` of run {row.run})")
        if each.threshold_reason:
            application.output.note(f"{each.model} on {each.dataset}: no threshold beside the methods: {each.threshold_reason}")
    pages = " or ".join(f"`vseam report {each.run}`" for each in found)
    application.output.note(f"every number is in {database}; ask it with `vseam query`, or draw a page by {pages}")


def tables(each: Comparison) -> list[Table]:
    """What came out, and whether it is more than a threshold."""
    from vseam_core.analysis.frames import frame_records
    from vseam_core.experiments.comparing.stored import comparison_rows
    from vseam_core.report.tables.comparisons import CONTROLS, RESULTS, is_controlled
    from vseam_core.report.tables.table import shown

    rows = frame_records(comparison_rows(each))
    about = f"{each.model} on {each.dataset} (split {each.split}; settings chosen on {each.n_choose}, {each.n_test} test samples)"
    found = [Table(list(RESULTS), [list(shown(row, RESULTS).values()) for row in rows], about)]
    controlled = [list(shown(row, CONTROLS).values()) for row in rows if is_controlled(row)]
    if controlled:
        title = f"{each.model} on {each.dataset}: more than the unchanged model with a yes/no threshold?"
        found.append(Table(list(CONTROLS), controlled, title))
    return found


def _as_data(each: Comparison) -> dict[str, Any]:
    names = ("model", "dataset", "split", "n_choose", "n_test", "threshold_reason")
    return {**{name: getattr(each, name) for name in names}, "methods": [_row_as_data(row) for row in each.rows]}


def _row_as_data(row: Compared) -> dict[str, Any]:
    names = ("method", "change", "run", "tried", "chosen_accuracy", "skips", "made", "reused", "refused")
    return {**{name: getattr(row, name) for name in names}, "figures": list(row.figures.values())}
