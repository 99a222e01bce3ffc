"""`vseam edit`: edited pairs as pictures, to look at before anything is measured on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS, SampleError

if TYPE_CHECKING:
    from vseam_core.types import Pair


@options.verb("edit", example="vseam edit --dataset scenes/color --limit 8 --output edits")
@options.use("dataset")
@click.option("--pool", type=click.Choice(["score", "choose", "test"]), default="test", show_default=True, help="Which samples.")
@click.option("--split", metavar="NAME", help="Which split of the pool (default: the easiest).")
@click.option("--control", is_flag=True, help="Make control edits: of something not asked about, so that the answer stays.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("edits"),
    show_default=True,
    help="The folder for the pictures and manifest.jsonl.",
)
@options.use("limit", "seed", "editor")
@click.pass_context
def edit(
    context: click.Context,
    datasets: tuple[str, ...],
    pool: str,
    split: str | None,
    control: bool,
    output: Path,
    limit: int | None,
    seed: int | None,
    editor: str | None,
) -> None:
    """Edit one concept of each image, write clean, corrupt and side-by-side pictures, and check what changed."""
    from vseam_core.editing.export import export_pairs

    application: Application = context.obj
    skipped: list[tuple[str, str]] = []
    names = datasets or ("scenes/color",)
    with application.output.progress() as progress, progress.task("editing", (limit or 8) * len(names)) as advance:
        pairs = _pairs(application, names, pool, split, control, limit or 8, seed or 0, editor or "scenes", skipped)
        exported = []
        for item in export_pairs(pairs, output):
            exported.append(item)
            advance(1)
    rows = [
        (
            item.pair.clean.question,
            item.pair.clean.answer,
            item.pair.corrupt.answer,
            f"{item.pair.source_term} → {item.pair.target_term}",
            item.check.changed_inside,
            item.check.changed_outside,
            item.view,
        )
        for item in exported
    ]
    columns = ("question", "clean answer", "corrupt answer", "edit", "changed inside", "changed outside", "view")
    data = {"directory": output, "columns": columns, "rows": rows, "skipped": skipped}
    application.output.result("edit/1", data, [Table(columns, rows)])
    for identifier, reason in skipped:
        application.output.note(f"skipped {identifier}: {reason}")
    application.output.note(f"{len(rows)} pairs are in {output}")
    context.exit(EXIT_DONE_WITH_SKIPS if skipped else EXIT_DONE)


def _pairs(
    application: Application,
    names: tuple[str, ...],
    pool: str,
    split: str | None,
    control: bool,
    limit: int,
    seed: int,
    editor_name: str,
    skipped: list[tuple[str, str]],
) -> Iterator[Pair]:
    editor = application.plugins.editor(editor_name)
    for name in names:
        benchmark = application.registry.load_dataset(name)
        for sample in benchmark.samples(pool, split or benchmark.splits()[0], limit, seed):  # type: ignore[arg-type]
            try:
                pair = editor.control(sample, seed) if control else editor.edit(sample, seed)
            except SampleError as error:
                skipped.append((sample.identifier, str(error)))
                continue
            if pair is None:
                skipped.append((sample.identifier, "no control edit is possible"))
            else:
                yield pair
