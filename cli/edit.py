"""`vseam edit`: edited pairs as images, to look at before anything is measured on them; `vseam edit review`: people's verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.edit_review import review
from vseam_cli.output import Table
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS

if TYPE_CHECKING:
    from vseam_core.api.types import Pair
    from vseam_core.editing.export import ExportedPair

_COLUMNS = ("question", "clean answer", "corrupt answer", "edit", "changed inside", "changed outside", "view")


@options.verb_group(
    "edit",
    is_verb=True,
    example="""
    vseam edit --dataset scenes/color --limit 8 --edits edits
    vseam edit --dataset gqa/color --editor recolor --planner lexicon --mask box --limit 20
    vseam edit review --serve
    """,
)
@options.use("dataset")
@click.option("--pool", type=click.Choice(["score", "choose", "test", "all"]), default="test", show_default=True, help="Which samples.")
@click.option("--split", metavar="NAME", help="Which split of the pool (default: the easiest).")
@click.option("--control", is_flag=True, help="Make control edits only: of something not asked about, so that the answer stays.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), hidden=True, help="The same as --edits.")
@options.use("limit", "seed", "editor", "clip")
@click.option("--model", "model", metavar="NAME", envvar="VSEAM_MODEL", help="Check whether this model's answers change as planned.")
@click.option("--second-model", metavar="NAME", help="The same by an independent model; an edit that it does not see fails.")
@options.use("device", "db")
@click.pass_context
def edit(
    context: click.Context,
    datasets: tuple[str, ...],
    pool: str,
    split: str | None,
    control: bool,
    output: Path | None,
    limit: int | None,
    seed: int | None,
    editor: str | None,
    model: str | None,
    second_model: str | None,
    device: str | None,
    database: str,
) -> None:
    """Edit one concept of each image, write clean, corrupt and side-by-side images, and check what changed.

    Edits that are in the folder already are used as they are; later commands with the same editor use them too.
    """
    if context.invoked_subcommand:
        return
    from vseam_core.editing.export import export_pairs
    from vseam_core.experiments.editing import EditOptions, EditRun

    application: Application = context.obj
    if output is not None:
        application.edits = str(output)
    names, count = datasets or ("scenes/color",), limit or 8
    choice = application.editor_choice(editor)
    chosen = EditOptions(editor=choice, pool=pool, split=split, limit=count, only_controls=control, model=model, second_model=second_model)  # type: ignore[arg-type]
    with application.workspace(database, device, seed) as workspace, workspace.progress.task("editing", count * len(names)) as advance:
        run = EditRun(workspace, chosen)
        exported = []
        for item in export_pairs(run.pairs(names), workspace.edits):
            exported.append(item)
            workspace.store.note_images(item.pair.identifier, workspace.edits / item.clean, workspace.edits / item.corrupt)
            advance(item.pair.kind == "edit" or control)
    _report(application, exported, [(skip.identifier, skip.reason) for skip in run.skips])
    context.exit(EXIT_DONE_WITH_SKIPS if run.skips else EXIT_DONE)


def _report(application: Application, exported: list[ExportedPair], skipped: list[tuple[str, str]]) -> None:
    from vseam_core.editing.checks import can_measure_ssim
    from vseam_core.errors import counted

    checked = any(item.pair.record for item in exported)
    columns = (*_COLUMNS, "kind", "checks") if checked else _COLUMNS
    rows = [(*_row(item), *_verdict(item.pair)) if checked else _row(item) for item in exported]
    data = {"directory": application.edits, "columns": columns, "rows": rows, "skipped": skipped}
    application.output.result("edit/1", data, [Table(columns, rows)])
    for identifier, reason in skipped:
        application.output.note(f"skipped {identifier}: {reason}")
    application.output.note(f"{counted(len(rows), 'pair')} in {application.edits}")
    if checked and not can_measure_ssim():
        application.output.note("the check raw_ssim_outside was left out: pip install 'vseam[edit]'")


def _row(item: ExportedPair) -> tuple[object, ...]:
    pair, check = item.pair, item.check
    terms = f"{pair.source_term} → {pair.target_term}"
    return (pair.clean.question, pair.clean.answer, pair.corrupt.answer, terms, check.changed_inside, check.changed_outside, item.view)


def _verdict(pair: Pair) -> tuple[str, str]:
    record = pair.record
    if record is None:
        return pair.kind, ""
    return record.control or pair.kind, f"{record.verdict}: {record.reason}" if record.reason else record.verdict


edit.add_command(review)
