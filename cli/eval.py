"""`vseam eval`: how well models answer a benchmark, as they are or with heads changed, with errors that can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table, plain
from vseam_core.config.numbers import LARGEST_WHOLE_NUMBER
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS, VseamError
from vseam_core.files import write_atomically

if TYPE_CHECKING:
    from vseam_core.experiments.evaluation import Evaluation
    from vseam_core.runs.workspace import Workspace

SCHEMA = "eval/1"
COLUMNS = ("metric", "value", "standard_error", "low", "high", "p_value", "n", "clusters", "interval", "reason")


class LimitType(click.ParamType):
    """A number of samples such as 200, or a share of all of them such as 0.1 or 10%."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """An int is a number of samples, a float a share."""
        text = str(value).strip()
        with suppress(ValueError):
            if text.endswith("%") and 0 < float(text[:-1]) <= 100:
                return float(text[:-1]) / 100
            if text.isdecimal() and 1 <= int(text) <= LARGEST_WHOLE_NUMBER:
                return int(text)
            if "." in text and 0 < float(text) <= 1:
                return float(text)
        self.fail(f"{value!r}: expected a number of samples such as 200, or a share of them such as 0.1 or 10%", param, ctx)


class BatchType(click.ParamType):
    """auto, or a number of prompts."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """A number, or auto."""
        text = str(value)
        if text != "auto" and not (text.isdecimal() and len(text) < 16 and int(text) >= 1):
            self.fail(f"{value!r}: expected auto, or a number of prompts", param, ctx)
        return text if text == "auto" else int(text)


@options.verb(
    "eval",
    example="vseam eval --model llava-tiny --dataset scenes/color --limit 200\n"
    "vseam eval --model llava-tiny --dataset scenes/color --limit 200 --ablate L4H1,L5H3 --with zero --compare last\n"
    "vseam eval --model llava-tiny --dataset scenes/color --split hard --rescale colours --log-samples answers.jsonl",
)
@options.use("model", "dataset")
@click.option("--pool", type=click.Choice(["score", "choose", "test", "all"]), help="Default: all; test for datasets that are generated.")
@click.option("--split", metavar="NAME", help="The split of the dataset (default: its first).")
@click.option(
    "--limit", type=LimitType(), metavar="N|SHARE", envvar="VSEAM_LIMIT", help="At most N samples, or a share such as 0.1 or 10%."
)
@click.option("--offset", type=options.WholeNumber(), default=0, metavar="N", help="Leave out the first N samples.")
@options.use("seed")
@click.option("--batch-size", type=BatchType(), default="auto", show_default=True, metavar="auto|N", help="Prompts run together, at most.")
@click.option("--max-new-tokens", type=options.WholeNumber(min=1), default=16, show_default=True, metavar="N", help="The longest answer.")
@click.option("--rescale", metavar="NAME|RUN", help="Measure the model with a stored head rescaling.")
@click.option("--ablate", multiple=True, metavar="HEADS", help="Measure the model without these heads, such as L5H3,L4H4.")
@options.use("stack")
@click.option("--with", "operation", metavar="NAME", help="What ablated heads are replaced by (`vseam operations`; default: zero).")
@options.use("operation_options")
@click.option("--method", metavar="NAME", help="Generate answers by this method (`vseam methods`): vcd, pai …")
@options.use("method_options")
@click.option("--judge", metavar="NAME", help="The rule that reads answers: official (default), strict, lmms-eval, vlmevalkit.")
@click.option("--compare", metavar="RUN|last", help="The gain over an earlier run, on the samples that both have answered.")
@click.option(
    "--log-samples", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write every answer there, as JSON lines."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the figures there, as JSON.")
@options.use("editor", "device", "loading", "memory_budget", "db")
@click.pass_context
def evaluate(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    seed: int | None,
    database: str,
    device: str | None,
    log_samples: Path | None,
    output: Path | None,
    judge: str | None,
    **given: Any,
) -> None:
    """Measure how well models answer a dataset: generated answers, first-token probabilities, errors by image.

    A run that was stopped goes on where it was when the same command is given again. With --editor every sample is asked on its
    edited image too, and pair accuracy is reported.
    """
    application: Application = context.obj
    if not models or not datasets:
        raise click.UsageError("give at least one --model and one --dataset")
    if given["operation"] and not given["ablate"]:
        raise click.UsageError("--with says what ablated heads are replaced by: give --ablate too")
    if given["stack"] and not given["ablate"]:
        raise click.UsageError("--stack says where ablated heads lie: give --ablate too")
    if given["operation_options"] and not given["ablate"]:
        raise click.UsageError("--operation-option says how heads are ablated: give --ablate too")
    if given["method_options"] and not given["method"]:
        raise click.UsageError("--method-option says how --method works: give --method too")
    for file in (log_samples, output):
        if file is not None and not file.absolute().parent.is_dir():
            raise VseamError(f"{file}: its folder does not exist")
    # Edited images are asked about only where somebody names an editor: for pair accuracy.
    editor = given.pop("editor")
    wanted = _options(**given, editor=application.editor_choice(editor) if editor else None)
    _check_names(application, models, datasets)
    found = []
    with application.workspace(database, device, seed) as workspace:
        for warning in workspace.store.warnings:
            application.output.note(warning)
        for dataset in datasets if judge else ():
            workspace.give_benchmark(workspace.registry.load_dataset(dataset, judge=judge))
        found = _evaluated(workspace, models, datasets, wanted)
    _tell(application, found, database, log_samples, output)
    context.exit(EXIT_DONE_WITH_SKIPS if any(each.skips for each in found) else EXIT_DONE)


def _options(**given: Any) -> Any:
    from vseam_core.config.defaults import EVALUATED_OPERATION
    from vseam_core.config.study_methods import registered_name
    from vseam_core.experiments.evaluation import EvaluationOptions
    from vseam_core.experiments.heads.changed_model import ChangeOptions
    from vseam_core.experiments.selection import Selection

    named = [head.strip() for text in given["ablate"] for head in text.split(",") if head.strip()]
    heads = tuple(f"{given['stack']}:{head}" if given["stack"] and ":" not in head else head for head in named)
    size, method = given["batch_size"], given["method"] and registered_name(given["method"])
    return EvaluationOptions(
        selection=Selection(given["pool"], given["split"], given["limit"], given["offset"]),
        max_new_tokens=given["max_new_tokens"],
        batch_size=None if size == "auto" else size,
        editor=given["editor"],
        change=ChangeOptions(
            given["rescale"],
            heads,
            given["operation"] or EVALUATED_OPERATION,
            given["operation_options"],
            method=method,
            method_options=given["method_options"].get("", {}) | given["method_options"].get(given["method"] or "", {}),
        ),
        compare=given["compare"],
    )


def _check_names(application: Application, models: Iterable[str], datasets: Iterable[str]) -> None:
    for name in models:
        application.registry.loadable_model(name)
    for name in datasets:
        application.registry.dataset(name)
    application.check_loading(list(models))


def _evaluated(workspace: Workspace, models: Sequence[str], datasets: Sequence[str], wanted: Any) -> list[Evaluation]:
    from vseam_core.experiments.evaluation import run_evaluation

    found = []
    for model in models:
        found += [run_evaluation(workspace, model, dataset, wanted) for dataset in datasets]
        workspace.release(model)
    return found


def _tell(application: Application, found: Sequence[Evaluation], database: str, log_samples: Path | None, output: Path | None) -> None:
    data = {"database": database, "evaluations": [_as_data(each) for each in found]}
    if log_samples is not None:
        write_atomically(
            log_samples, "".join(json.dumps(plain(line), ensure_ascii=False) + "\n" for each in found for line in _lines(each))
        )
    if output is not None:
        envelope = plain({"schema": f"vseam.{SCHEMA}", **data})
        write_atomically(output, json.dumps(envelope, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    application.output.result(SCHEMA, data, [table for each in found for table in _tables(each)])
    for each in found:
        word = "asked" if each.skips else "answered"
        made = f"{each.made} {word} now, {each.reused} before" if each.reused else f"{each.made} {word}"
        left_out = f", {len(each.skips)} of them skipped" if each.skips else ""
        application.output.note(f"run {each.run}: {made}{left_out}; compare with it by `--compare {each.run}`")
        for skip in each.skips:
            application.output.note(f"skipped {skip.identifier}: {skip.reason}")
    application.output.note(f"every number is in {database}; ask it with `vseam query`")


def _tables(each: Evaluation) -> list[Table]:
    metrics = each.metrics
    shown = [name for name in COLUMNS if metrics[name].notna().any() and (metrics[name].astype("string") != "").any()]
    title = (
        f"{each.model}{f', {each.change}' if each.change else ''} on {each.dataset} (pool {each.pool}, split {each.split}; run {each.run})"
    )
    tables = []
    for subset, rows in metrics.groupby("subset", sort=False):
        cells = [[plain(None if value != value else value) for value in row] for row in _values(rows, shown)]
        heading = title if subset == "all" else f"{title}, {subset}"
        tables.append(Table(shown, cells, heading, read=_read(rows, heading)))
    return tables


def _read(rows: Any, title: str) -> Table:
    """The figures as a person reads them, in 80 columns: each with its limits in one column, and below what its errors rest on."""
    from vseam_core.analysis.frames import frame_records

    records = frame_records(rows)
    columns: dict[str, list[Any]] = {
        "metric": [record["metric"] for record in records],
        "value": [record["value"] for record in records],
        "95 %": [_limits(record["low"], record["high"]) for record in records],
        "p": [record["p_value"] for record in records],
        "n": [record["n"] for record in records],
        "images": [record["clusters"] for record in records],
    }
    if all(value is None for value in columns["p"]):
        del columns["p"]
    if columns["images"] == columns["n"]:
        del columns["images"]
    notes = [f"95 % of {', '.join(names)}: {words}" for words, names in _by_words(records, "interval")]
    notes += [f"{', '.join(names)}: {words}" for words, names in _by_words(records, "reason")]
    return Table(list(columns), list(zip(*columns.values(), strict=True)), title, notes)


def _by_words(records: Iterable[dict[str, Any]], column: str) -> Iterable[tuple[str, list[str]]]:
    """What stands in a column of words, each with the metrics that it stands beside."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record[column]:
            found.setdefault(record[column], []).append(record["metric"])
    return found.items()


def _limits(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3g} to {high:.3g}"


def _values(rows: Any, columns: Sequence[str]) -> list[list[Any]]:
    from vseam_core.analysis.frames import frame_records

    return [[record[name] for name in columns] for record in frame_records(rows[list(columns)])]


def _as_data(each: Evaluation) -> dict[str, Any]:
    from vseam_core.analysis.frames import frame_records

    names = ("run", "model", "dataset", "pool", "split", "change", "made", "reused", "compared_with")
    skips = [vars(skip) for skip in each.skips]
    return {**{name: getattr(each, name) for name in names}, "metrics": frame_records(each.metrics), "skips": skips}


def _lines(each: Evaluation) -> Iterable[dict[str, Any]]:
    """One line for each answer, and one for each sample that was skipped."""
    from vseam_core.analysis.frames import frame_records

    labels = {"run": each.run, "model": each.model, "change": each.change}
    left_out = ("run_id", "key", "model", "clean_identifier")
    for record in frame_records(each.answers):
        yield {**labels, **{name: value for name, value in record.items() if name not in left_out}}
    for skip in each.skips:
        yield {**labels, "identifier": skip.identifier, "skipped": skip.reason}
