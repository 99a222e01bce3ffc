"""`vseam edit review`: a person looks at edits and accepts or rejects them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table, say
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS, VseamError

if TYPE_CHECKING:
    from vseam_core.editing.review import ReviewItem
    from vseam_core.store.store import Store

MOST_SHOWN = 200


@options.verb(
    "review",
    example="""
    vseam edit review --page review.html
    vseam edit review --serve
    vseam edit review --import edit-verdicts.json
    vseam edit review --accept 3f2a91c07b11 --reject 88d0c2e4a5f6 --comment "a second car"
    """,
)
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="The file to write (default: review.html among the edits).")
@click.option("--serve", is_flag=True, help="Serve the page on this machine and store each verdict at once, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port to serve on (default: any free one).")
@click.option("--import", "imported", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Store what the page exported.")
@click.option("--accept", multiple=True, metavar="ID", help="Accept this edit: its name or the first digits of its key.")
@click.option("--reject", multiple=True, metavar="ID", help="Reject this edit.")
@click.option("--comment", default="", help="Why, with --accept or --reject.")
@click.option(
    "--reviewer", metavar="NAME", envvar="VSEAM_REVIEWER", help="Who decides; a person's later verdict replaces their earlier one."
)
@click.option("--only-editor", metavar="NAME", help="Only edits of this editor.")
@click.option("--only-dataset", metavar="NAME", help="Only edits of this dataset.")
@options.use("limit", "db")
@click.pass_context
def review(
    context: click.Context,
    page: Path | None,
    serve: bool,
    port: int,
    imported: Path | None,
    accept: tuple[str, ...],
    reject: tuple[str, ...],
    comment: str,
    reviewer: str | None,
    only_editor: str | None,
    only_dataset: str | None,
    limit: int | None,
    database: str,
) -> None:
    """Show clean, mask, corrupt, difference, plan and checks of each edit on one page, and store whether a person accepts it.

    Edits without a verdict come first. `--accepted-only` on other verbs then uses accepted pairs only.
    """
    from vseam_core.editing.review import find_edit, import_verdicts, review_items
    from vseam_core.store import open_store

    application: Application = context.obj
    with open_store(database, create=False) as store:
        if imported is not None:
            stored, unknown = import_verdicts(store, imported, reviewer)
            data = {"stored": stored, "unknown": unknown}
            application.output.result("edit-review/1", data, text=f"stored {stored} verdicts of {imported}")
            for name in unknown:
                application.output.note(f"skipped {name}: {database} has no such edit")
            context.exit(EXIT_DONE_WITH_SKIPS if unknown else EXIT_DONE)
        items = review_items(store, only_editor, only_dataset)
        if accept or reject:
            named = [(find_edit(items, name), "accepted") for name in accept] + [(find_edit(items, name), "rejected") for name in reject]
            for name, verdict in named:
                store.review_edit(name, verdict, reviewer or "", comment)  # type: ignore[arg-type]
            data = {"verdicts": [{"identifier": name, "verdict": verdict} for name, verdict in named]}
            application.output.result("edit-review/1", data, [Table(("edit", "verdict"), named)])
            return
        _show(application, store, items=items, limit=limit or MOST_SHOWN, page=page, serve=serve, port=port, reviewer=reviewer or "")


def _show(
    application: Application, store: Store, items: list[ReviewItem], limit: int, page: Path | None, serve: bool, port: int, reviewer: str
) -> None:
    from vseam_core.editing.review_page import review_page
    from vseam_core.files import write_atomically

    if not items:
        raise VseamError(f"{store.label} holds no edit with images: make some with `vseam edit`")
    shown = items[:limit]
    if len(items) > limit:
        application.output.note(f"showing {limit} of {len(items)} edits; --limit shows more, decided ones come last")
    title = f"Edits in {store.label}"
    if serve:
        _serve(application, store, items=shown, title=title, port=port, reviewer=reviewer)
        return
    place = page or Path(application.edits) / "review.html"
    write_atomically(place, review_page(shown, title, reviewer=reviewer))
    rows = [(item.question, item.edit, item.kind, item.verdict, _latest(item), item.key[:12]) for item in shown]
    columns = ("question", "edit", "kind", "checks", "review", "key")
    data: dict[str, Any] = {"page": str(place), "columns": columns, "rows": rows}
    application.output.result("edit-review/1", data, [Table(columns, rows)])
    application.output.note(f"the page is {place}; export its verdicts and store them with --import, or use --serve")


def _latest(item: ReviewItem) -> str:
    return item.reviews[-1]["verdict"] if item.reviews else ""


def _serve(application: Application, store: Store, items: list[ReviewItem], title: str, port: int, reviewer: str) -> None:
    from vseam_core.editing.review_page import review_page
    from vseam_core.editing.review_server import ReviewServer

    def decide(identifier: str, verdict: str, comment: str) -> None:
        store.review_edit(identifier, verdict, reviewer, comment)  # type: ignore[arg-type]

    def page(token: str) -> str:
        return review_page(items, title, token, reviewer)

    with ReviewServer(page, [item.identifier for item in items], decide, port) as server:
        say(f"review {len(items)} edits at {server.address} (Ctrl-C ends)", err=True)
        try:
            server.run()
        except KeyboardInterrupt:
            application.output.note("stopped")
    application.output.result("edit-review/1", {"stored": server.decided}, text=f"stored {server.decided} verdicts")
