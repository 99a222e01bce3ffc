"""`vseam datasets`: the datasets that have a name, and what is wrong with one before hours are spent on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.listing import show_names
from vseam_cli.output import Table
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS

if TYPE_CHECKING:
    from vseam_core.api.types import Sample
    from vseam_core.datasets.checking import DatasetCheck

# Rendered worlds are endless: so many of their samples are looked at unless --limit says otherwise.
_MOST = 100_000


@options.listing_group("datasets", example="vseam datasets --json\nvseam datasets check pope/random --images")
def datasets(application: Application) -> None:
    """List datasets by name; `vseam datasets check NAME` says what is wrong with one."""
    listed = application.registry.list_datasets()
    rows = [(item.name, item.summary or item.problem, item.origin) for item in listed]
    show_names(application, "datasets", listed, Table(("dataset", "what it asks", "from"), rows))


@options.verb(
    "check",
    group=datasets,
    example="""
    vseam datasets check gqa/color --images
    vseam datasets check mine.csv --images photos
    vseam datasets check scenes/color --limit 200
    """,
)
@click.argument("name", required=False)
@click.option(
    "--images",
    is_flag=False,
    flag_value="",
    metavar="[FOLDER]",
    help="Open every image, and hold boxes against its size; FOLDER is where the images of a file of questions lie.",
)
@options.use("limit", "seed")
@click.pass_context
def check(context: click.Context, name: str | None, images: str | None, limit: int | None, seed: int | None) -> None:
    """Count samples, duplicates, contradictions, missing images, answers. Exit code 3 where some samples cannot be used.

    NAME is a dataset's name, or a file of questions.
    """
    from vseam_core.datasets.checking import UNUSABLE, check_dataset

    application: Application = context.obj
    if name is None and images:  # `--images NAME`: the name is no folder
        name, images = images, ""
    if name is None:
        raise click.UsageError("missing argument NAME: `vseam datasets` lists the names", context)
    application.images = images or None
    with application.output.progress() as progress, progress.task(f"checking {name}", limit or 0) as advance:
        samples = _samples(application, name, limit, seed)
        found = check_dataset(samples, images is not None, advance)
    application.output.result("dataset-check/1", {"name": name, **asdict(found)}, list(_tables(name, found)))
    unusable = sum(problem.count for kind, problem in found.problems.items() if kind in UNUSABLE)
    context.exit(EXIT_DONE_WITH_SKIPS if unusable else EXIT_DONE)


def _samples(application: Application, name: str, limit: int | None, seed: int | None) -> Iterator[Sample]:
    """At most `limit` samples in all, as many of each split."""
    benchmark = application.registry.load_dataset(name)
    splits = benchmark.splits()
    most = limit or _MOST * len(splits)
    share = -(-most // len(splits))
    of_splits = (islice(benchmark.samples("all", split, share if limit else None, seed or 0), share) for split in splits)
    yield from islice(chain.from_iterable(of_splits), most)


def _tables(name: str, found: DatasetCheck) -> Iterator[Table]:
    facts: list[tuple[str, Any]] = [
        ("samples", found.samples),
        ("images", found.images),
        ("samples with boxes", found.with_objects),
        *((f"pool {pool}", count) for pool, count in found.pools.items()),
        *((f"form {form}", count) for form, count in found.forms.items()),
        *((f"category {category}", count) for category, count in list(found.categories.items())[:10]),
        *((f"answer {answer}", count) for answer, count in found.answers),
    ]
    yield Table((name, "n"), facts)
    rows = [
        (kind if index == 0 else "", problem.count if index == 0 else "", identifier, what)
        for kind, problem in found.problems.items()
        for index, (identifier, what) in enumerate(problem.examples)
    ]
    if rows:
        yield Table(("problem", "n", "for example", "what"), rows)
