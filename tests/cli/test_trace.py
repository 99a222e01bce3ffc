"""`vseam trace`: every tracer has a table and a figure, and what it is given on the command line."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import vseam_core
from vseam_core.config.study import HeadScan, Study
from vseam_core.datasets.file_benchmark import pool_of
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.records import TracerRecord

from .conftest import Vseam

ON_COLOUR = ("trace", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "3")
NAMES_WHAT_IT_RUNS = {"config/study.py", "config/defaults.py", "engine/capabilities.py"}
"""Defaults have to name what is run by default; what a model allows is a list of capabilities, some of which are called as tracers are."""


def test_cut_attention_and_readings_have_a_table_and_a_figure_each(vseam: Vseam) -> None:
    found = vseam(*ON_COLOUR, "--tracer", "knockout", "--tracer", "lens", "--json")
    assert found.code == 0, found.stderr
    result = json.loads(found.stdout)
    titles = [table["title"] for table in result["tables"]]
    assert titles == [
        "Strongest cells of knockout: what cutting attention between positions does to the answer",
        "Readings of lens: what each layer already says about the answer",
    ]
    assert all(table["rows"] for table in result["tables"])
    assert [Path(file).name for file in result["figures"]] == [
        *(f"{tracer}_llava-tiny.{kind}" for tracer in ("knockout", "lens") for kind in ("png", "svg")),
        "index.html",
    ]
    page = Path(result["figures"][-1]).read_text(encoding="utf-8")
    assert all(title in page for title in titles)
    shown = json.loads(vseam("query", "SELECT presentation FROM runs ORDER BY id", "--json").stdout)["rows"]
    assert [json.loads(row[0])["view"] for row in shown] == ["curve", "readout"]


def test_the_core_names_no_built_in_tracer() -> None:
    names = set(build_plugins().names(TracerRecord))
    assert {"tokenwise", "groups", "regions", "lens", "knockout"} <= names
    root = Path(vseam_core.__file__).parent
    named = {
        f"{file.relative_to(root).as_posix()}: {node.value}"
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names and file.relative_to(root).as_posix() not in NAMES_WHAT_IT_RUNS
    }
    assert named == set()


def stored_options(vseam: Vseam, part: str) -> list[dict]:
    rows = json.loads(vseam("query", "SELECT configuration FROM runs ORDER BY id", "--json").stdout)["rows"]
    return [json.loads(row[0])[part]["options"] for row in rows]


def test_options_of_a_tracer_reach_it_and_are_part_of_what_is_stored(vseam: Vseam) -> None:
    options = ("--tracer-option", "knockout:edges=[last<-image]", "--tracer-option", "window=2")
    found = vseam(*ON_COLOUR, "--limit", "1", "--tracer", "knockout", *options, "--json")
    assert found.code == 0, found.stderr
    (stored,) = stored_options(vseam, "tracer")
    assert (stored["window"], stored["edges"]) == (2, ["last<-image"])


@pytest.fixture
def studied(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """The study that a command would run."""
    found: list[Study] = []

    def keep(_: object, study: Study, *__: object, **___: object) -> int:
        found.append(study)
        return 0

    monkeypatch.setattr("vseam_cli.stages.run_stages", keep)

    def run(*arguments: str) -> Study:
        outcome = vseam(*arguments, "--model", "llava-tiny", "--dataset", "scenes/color")
        assert outcome.code == 0, outcome.stderr
        return found[-1]

    return run


def test_options_of_an_operation_reach_the_scan_and_the_ablation_by_it(studied: Callable[..., Study]) -> None:
    study = studied("heads", "ablate", "--operation", "resample", "--operation-option", "donors=2")
    assert [(scan.operation, scan.options) for scan in study.heads] == [("resample", {"donors": 2})]
    assert [(method.name, method.options) for method in study.ablation.operations] == [("resample", {"donors": 2})]
    study = studied("heads", "ablate", "--operation-option", "donors=3")
    assert [method.options for method in (study.heads[0], *study.ablation.operations)] == [{"donors": 3}, {"donors": 3}]


def test_every_option_of_a_scan_reaches_the_study(studied: Callable[..., Study]) -> None:
    given = {
        "operation": "patch",
        "positions": "last",
        "direction": "denoising",
        "method": "screen",
        "screen_top": 3,
        "integrated_steps": 2,
    }
    arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    (scan,) = studied("heads", "scan", *arguments).heads
    assert {name: getattr(scan, name) for name in given} == given
    # A new field of a scan has to be settable here too, or be left to study files on purpose.
    assert set(HeadScan.model_fields) == {*given, "options", "protocol", "stack"}
    # Gradients estimate heads of the language model only.
    assert studied("heads", "scan", "--stack", "vision").heads[0].stack == "vision"


def test_options_of_one_tracer_win_over_those_of_all(studied: Callable[..., Study]) -> None:
    options = ("--tracer-option", "measures=logit", "--tracer-option", "lens:measures=[prob_sum, logit]")
    study = studied("trace", "--tracer", "lens", "--tracer", "groups", *options, "--pool", "test")
    assert [method.options for method in study.tracers] == [{"measures": ["prob_sum", "logit"]}, {"measures": "logit"}]
    assert study.trace_pool == "test"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trace", "--tracer", "knockout", "--tracer-option", "windw=3"), "no option 'windw'; did you mean 'window'?"),
        (("trace", "--tracer", "knockout", "--tracer-option", "window=three"), "option window is 'three', expected a whole number"),
        (("trace", "--tracer", "knockout", "--tracer-option", "window=0"), "window must be at least 1 layer"),
        (("trace", "--tracer", "groups", "--tracer-option", "groups=3"), "option groups is 3, expected a list of texts"),
        (("trace", "--tracer", "groups", "--tracer-option", "lens:sites=[x]"), "no such --tracer here"),
        (("trace", "--tracer-option", "window=3"), "name it by --tracer"),
        (("trace", "--tracer", "knockout", "--tracer-option", "window"), "expected NAME=VALUE"),
        (("trace", "--tracer", "knockout", "--tracer-option", "window=2026-01-01"), "expected text, a number"),
        (("trace", "--tracer", "knockout", "--tracer-option", "window=1", "--tracer-option", "window=2"), "given twice"),
        (("heads", "scan", "--operation-option", "donrs=3"), "no option 'donrs'; did you mean 'donors'?"),
        (("heads", "scan", "--operation-option", "donors=many"), "option donors is 'many', expected a whole number"),
        (("eval", "--operation-option", "donors=3"), "give --ablate too"),
        (("eval", "--ablate", "L1H1", "--with", "resample", "--operation-option", "donrs=3"), "no option 'donrs'"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_was_expected(vseam: Vseam, arguments: tuple[str, ...], said: str) -> None:
    found = vseam(*arguments, "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "2", "-q")
    assert found.code == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert "bug" not in found.stderr


def test_a_pattern_that_is_one_field_is_text_and_no_mapping(studied: Callable[..., Study]) -> None:
    options = ("--editor", "precomputed", "--editor-option", "images={image}", "--editor-option", "masks={image_stem}.png")
    assert studied("trace", *options).editor.options == {"images": "{image}", "masks": "{image_stem}.png"}


def test_options_of_a_study_file_are_checked_with_their_line(vseam: Vseam) -> None:
    Path("study.yaml").write_text(
        "name: s\nmodels: [llava-tiny]\ndatasets: [scenes/color]\ntracers:\n  - groups\n  - {name: knockout, options: {windw: 3}}\n"
    )
    found = vseam("study", "check", "study.yaml")
    assert found.code == 2
    assert "study.yaml:6: tracers.1: " in found.stderr
    assert "no option 'windw'; did you mean 'window'?" in found.stderr


def test_one_row_of_ones_own_is_traced_with_pool_all_and_otherwise_said_to_be_in_another_pool(vseam: Vseam) -> None:
    from PIL import Image

    image = next(f"photo-{number}.png" for number in range(50) if pool_of(f"photo-{number}.png") == "choose")
    Image.new("RGB", (64, 64), (220, 40, 40)).save(image)
    Path("rows.csv").write_text(f'id,image,question,answer,competitor,box,object\n1,{image},Is the ball red?,Yes,No,"[8,8,40,40]",ball\n')
    Path("registry.yaml").write_text("datasets:\n  mine:\n    plugin: table\n    options: {questions: rows.csv, images: .}\n")
    command = ("trace", "--model", "llava-tiny", "--dataset", "mine", "--tracer", "tokenwise", "--editor", "noise")
    found = vseam(*command)
    assert found.code == 2, found.stdout
    assert "mine has 1 row (score 0, choose 1, test 0)" in found.stderr
    assert "--pool all" in found.stderr
    assert not Path("reports").exists()
    found = vseam(*command, "--pool", "all", "--json")
    assert found.code == 0, found.stderr
    assert json.loads(found.stdout)["tables"][0]["title"].startswith("Strongest cells of tokenwise")


def test_pools_that_are_too_small_for_claims_are_said_and_all_rows_can_be_scanned(vseam: Vseam) -> None:
    from PIL import Image

    rows = ["image,question,answer"]
    for number in range(6):
        Image.new("RGB", (64, 64), (220, 40 * number, 40)).save(f"photo-{number}.png")
        rows.append(f"photo-{number}.png,Is the ball red?,{'Yes' if number % 2 else 'No'}")
    Path("rows.csv").write_text("\n".join(rows) + "\n")
    Path("registry.yaml").write_text("datasets:\n  mine:\n    plugin: table\n    options: {questions: rows.csv, images: .}\n")
    pools = Counter(pool_of(f"photo-{number}") for number in range(6))
    assert 0 < pools["score"] < 6
    command = ("heads", "scan", "--model", "llava-tiny", "--dataset", "mine", "--operation", "zero")
    found = vseam(*command)
    assert found.code == 0, found.stderr
    counts = ", ".join(f"{pool} {pools[pool]}" for pool in ("score", "choose", "test"))
    assert f"mine has 6 rows ({counts}): fewer than 10 in pool score, too few for intervals and claims" in found.stderr
    assert vseam(*command, "--pool", "all").code == 0
    counted = (
        "SELECT runs.pool, COUNT(*) FROM head_effects JOIN units ON units.id = unit_id JOIN runs ON runs.id = run_id GROUP BY runs.pool"
    )
    stored = vseam("query", f"{counted} ORDER BY runs.pool", "--json")
    # Two measures for each sample.
    assert json.loads(stored.stdout)["rows"] == [["all", 12], ["score", 2 * pools["score"]]]
    labelled = vseam("query", "SELECT DISTINCT pool FROM head_scores ORDER BY pool", "--json")
    assert json.loads(labelled.stdout)["rows"] == [["all"], ["score"]]
    refused = vseam("heads", "scan", "--model", "llava-tiny", "--dataset", "mine", "--pool", "some")
    assert refused.code == 2


def test_a_file_of_questions_is_a_dataset_by_its_path_with_its_images_beside_it_or_in_a_folder(vseam: Vseam) -> None:
    from PIL import Image

    Path("photos").mkdir()
    Image.new("RGB", (64, 64), (220, 40, 40)).save("photos/a.png")
    Path("mine.csv").write_text("file,prompt,label\na.png,Is the ball red?,Yes\n")
    found = vseam("eval", "--model", "llava-tiny", "--dataset", "mine.csv", "--images", "photos", "--json")
    assert found.code == 0, found.stderr
    assert json.loads(found.stdout)["evaluations"][0]["dataset"] == "mine.csv"
    assert "mine.csv: the column 'label' is taken for the answer" in found.stderr
    Path("photos/beside.jsonl").write_text('{"image": "a.png", "question": "Is the ball red?", "answer": "Yes"}\n')
    assert vseam("eval", "--model", "llava-tiny", "--dataset", "photos/beside.jsonl", "-q").code == 0
    lost = vseam("eval", "--model", "llava-tiny", "--dataset", "nowhere.csv")
    assert lost.code == 2
    assert "dataset 'nowhere.csv': expected a file of questions there; there is none" in lost.stderr
    unknown = vseam("eval", "--model", "llava-tiny", "--dataset", "scenes/colour")
    assert "did you mean 'scenes/color'" in unknown.stderr
    assert "or a file of questions (.csv" in unknown.stderr


def test_heads_that_are_selected_on_another_pool_are_neither_ablated_nor_rescaled() -> None:
    with pytest.raises(ValueError, match="scan_pool all: stage ablate reports on images that no head was selected on"):
        Study(models=["llava-tiny"], datasets=["scenes/color"], scan_pool="all", stages=["scan", "ablate"])


def test_paths_have_a_table_of_the_strongest_and_a_map_of_all(vseam: Vseam) -> None:
    ends = ("--from", "L1H2", "--to", "L*H*.q", "--to", "logits", "--direction", "noising")
    found = vseam("paths", *ON_COLOUR[1:], *ends, "--json")
    assert found.code == 0, found.stderr
    result = json.loads(found.stdout)
    (table,) = result["tables"]
    assert table["title"] == "Strongest cells of paths: share of the answer that a path carries"
    sites = Counter(row[table["columns"].index("site")] for row in table["rows"])
    assert sites == {"L1H2 → query of every head": 5, "L1H2 → logits": 1}
    assert "paths_llava-tiny.svg" in {Path(file).name for file in result["figures"]}
    (stored,) = stored_options(vseam, "tracer")
    assert (stored["senders"], stored["receivers"], stored["directions"]) == (["L1H2"], ["L*H*.q", "logits"], ["noising"])


def test_every_option_of_paths_reaches_the_tracer(studied: Callable[..., Study]) -> None:
    given = ("--from", "L1H2+L1H3", "--positions", "image", "--through-mlps", "--direction", "denoising", "--pool", "choose")
    study = studied("paths", *given)
    (tracer,) = study.tracers
    assert tracer.options == {"senders": ["L1H2+L1H3"], "positions": "image", "through_mlps": True, "directions": ["denoising"]}
    assert (tracer.name, study.trace_pool, study.stages) == ("paths", "choose", ["trace"])


def test_screened_paths_are_held_against_exact_ones(vseam: Vseam) -> None:
    screen = ("--method", "screen", "--limit", "2", "--screen-top", "2", "--integrated-steps", "0")
    found = vseam("paths", *ON_COLOUR[1:5], *screen, "--json")
    assert found.code == 0, found.stderr
    agreement, strongest = json.loads(found.stdout)["tables"]
    assert agreement["title"] == "Screening of paths: gradient estimates against exact runs"
    parts = Counter(row[strongest["columns"].index("part")] for row in strongest["rows"])
    assert parts == {"top": 2, "random": 3}
    assert vseam("paths", *ON_COLOUR[1:5], "--method", "screen", "--to", "logits").code == 2
    assert vseam("paths", *ON_COLOUR[1:5], "--screen-top", "2").code == 2


def test_of_a_trace_that_measured_nothing_no_page_is_drawn(vseam: Vseam) -> None:
    traced = vseam("trace", "--model", "instructblip-tiny", "--dataset", "scenes/color", "--tracer", "regions", "--limit", "2")
    assert (traced.code, traced.stderr.count("\n")) == (2, 1)
    assert traced.stderr.startswith("vseam: nothing was left to measure: instructblip-tiny, scenes/color: regions tracing is not possible")
    for named in ((), ("1",)):
        drawn = vseam("report", *named)
        assert (drawn.code, drawn.stderr.count("\n")) == (2, 1)
        assert "nothing to draw" in drawn.stderr
        assert "(trace)" in drawn.stderr
    assert not Path("reports").exists()
