"""`vseam view`: the page of a database in a browser, drawn again while a study runs."""

from __future__ import annotations

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import say


@options.verb("view", example="vseam view\nvseam view default --db results.db --port 8000")
@click.argument("what", metavar="[STUDY|RUN…]", nargs=-1)
@options.use("db")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port on 127.0.0.1 (default: a free one).")
@click.option("--open", "opens", is_flag=True, help="Open the page in this machine's browser.")
@click.pass_obj
def view(application: Application, what: tuple[str, ...], database: str, port: int, opens: bool) -> None:
    """Serve the page of a stored study on this machine only, until Ctrl-C.

    While a study writes to the database the page says that there is more, and draws it on request.
    """
    from vseam_core.report.data.study import study_page_data
    from vseam_core.report.live import LiveServer, state_of
    from vseam_core.report.page import report_page
    from vseam_core.report.tables.closing import closing_tables
    from vseam_core.results.reading_old import open_any
    from vseam_core.results.stored_study import find_study, read_material

    with open_any(database) as store:
        find_study(store, what)

        def draw() -> str:
            state, chosen = state_of(store), find_study(store, what)
            material = read_material(store, chosen)
            page = study_page_data(store, chosen, material, closing_tables(material))
            page.content["live"] = state
            return report_page(page, live=True)

        with LiveServer(lambda: state_of(store), draw, port) as server:
            say(f"{database} is shown at {server.address} (Ctrl-C ends)", err=True)
            if opens:
                click.launch(server.address)
            try:
                server.run()
            except KeyboardInterrupt:
                application.output.note("stopped")
