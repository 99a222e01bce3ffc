"""`vseam explain`: one question about one image, from the command to a page in seconds, without a dataset or a database."""

from __future__ import annotations

import contextlib
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table

if TYPE_CHECKING:
    from vseam_core.experiments.explain.options import ExplainOptions
    from vseam_core.results.explanation import Explanation

IN_MEMORY = ":memory:"


class BoxType(click.ParamType):
    """x0,y0,x1,y1 in pixels."""

    name = "box"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float, float, float]:
        """The four sides."""
        try:
            x0, y0, x1, y1 = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: expected x0,y0,x1,y1 in pixels, such as 40,30,120,90", param, ctx)
        return x0, y0, x1, y1


@options.verb(
    "explain",
    example='vseam explain --model llava-tiny --image dog.png --question "Is the dog red?"\n'
    'vseam explain --model llava-tiny --image dog.png --question "Is the dog red?" --edit "red -> blue" --box 40,30,120,90 --open\n'
    'vseam explain --model llava-tiny --image dog.png --question "Is the dog red?" --edited blue-dog.png --json',
)
@click.option("--model", metavar="NAME", envvar="VSEAM_MODEL", help="The model (`vseam models`, a checkpoint folder, a hub id).")
@click.option("--image", type=click.Path(path_type=Path), help="The image that the question is about.")
@click.option("--question", metavar="TEXT", help="The question.")
@click.option("--edited", type=click.Path(path_type=Path), help="An edited image of your own, as it is.")
@click.option("--edit", metavar="WORDS", help="What to change: a word of the question and what it becomes, such as 'red -> blue'.")
@click.option("--noise", is_flag=True, help="Instead of an edit: noise, in the box or everywhere.")
@click.option("--box", "boxes", type=BoxType(), multiple=True, metavar="X0,Y0,X1,Y1", help="Where to edit, in pixels; may be given again.")
@click.option("--answer", metavar="TEXT", help="The answer to explain (default: the model's own).")
@click.option("--against", metavar="TEXT", help="What it is held against (default: the other word, or the answer on the edited image).")
@options.use("editor", "seed", "device", "loading", "memory_budget")
@click.option("--db", "database", metavar="FILE|URL", help="Keep every number in this results database (default: none is written).")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="The page's folder (default: reports/explain-N).")
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@click.pass_obj
def explain(
    application: Application,
    model: str | None,
    image: Path | None,
    question: str | None,
    edited: Path | None,
    editor: str | None,
    seed: int | None,
    device: str | None,
    database: str | None,
    output: Path | None,
    show: bool,
    **given: Any,
) -> None:
    """Explain one answer: edit the image, trace words and layers, score every head, read the lens and the attention, write a page.

    Of one sample no claim can be made. What cannot be edited as asked is destroyed instead (blurred), and that is said.
    """
    from vseam_core.datasets.images import image_source
    from vseam_core.experiments.explain.options import ExplainOptions

    if model is None or image is None or question is None:
        missing = next(name for name, value in (("model", model), ("image", image), ("question", question)) if value is None)
        raise click.UsageError(f"explain needs --{missing}")
    choice = application.editor_choice(editor) if editor or application.editing else None
    second = None if edited is None else image_source(edited)
    wanted = ExplainOptions(image_source(image), question, second, editor=choice, **given)
    wanted.check()
    application.registry.loadable_model(model)
    application.check_loading([model])
    # The page holds the images themselves; the database keeps small ones, where there is one.
    application.thumbnails = application.thumbnails and database is not None
    found = _explained(application, model, wanted, database, device, seed)
    _tell(application, found, output, show)


def _explained(
    application: Application, model: str, wanted: ExplainOptions, database: str | None, device: str | None, seed: int | None
) -> Explanation:
    from vseam_core.experiments.explain.running import explain as run

    with _place_of_edits(application, database), application.workspace(database or IN_MEMORY, device, seed) as workspace:
        for warning in workspace.store.warnings:
            application.output.note(warning)
        return run(workspace, model, wanted)


@contextlib.contextmanager
def _place_of_edits(application: Application, database: str | None) -> Iterator[None]:
    """Edited images are kept where a database refers to them, or somebody named a folder; else they are gone with the command."""
    if database is not None or application.edits != Application.edits:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="vseam-explain-") as folder:
        application.edits = folder
        yield


def _tell(application: Application, found: Explanation, output: Path | None, show: bool) -> None:
    from vseam_core.report.explained import write_explanation
    from vseam_core.report.tables.explained import explained_sentences, explained_tables

    page = write_explanation(found, output)
    sentences = explained_sentences(found)
    tables = [Table(table.columns, table.rows, "\n".join((table.title, *table.notes))) for table in explained_tables(found)]
    data = {**found.to_dict(), "findings": sentences, "page": str(page)}
    application.output.result("explain/1", data, tables, "\n".join(("", *sentences)))
    for remark in found.remarks:
        application.output.note(remark)
    application.output.note(f"the page is {page}")
    if show:
        webbrowser.open(page.resolve().as_uri())
