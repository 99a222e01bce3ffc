"""Benchmarks go through `datasets check`, `eval`, `edit`, `trace` and `heads scan`, on an embedded model."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.conftest import Vseam
from tests.datasets import test_amber_descriptions as descriptions
from tests.datasets import test_caption_benchmarks as captions
from tests.datasets import test_choice_benchmarks as choices
from tests.datasets import test_paired_benchmarks as pairs
from tests.models import builders
from vseam_plugins.benchmarks import amber_generative

parquet = pytest.importorskip("pyarrow.parquet")

FILES = {
    "mmbench": "mmbench.tsv", "scienceqa": "scienceqa/problems.json", "mmstar": "mmstar.tsv", "seedbench": "seed/SEED-Bench.json",
    "cvbench": "cvbench", "naturalbench": "natural.parquet", "winoground": "wino/examples.jsonl", "whatsup/a": "whatsup.json",
    "hallusionbench": "hallusion.json", "vsr": "vsr.jsonl", "mmmu": "mmmu", "amber": "amber/query/query_discriminative.json",
    "chair": "data/chair/questions.json", "amber/generative": "described/query/query_generative.json",
}  # fmt: skip
OFFICIAL = {
    "mmbench": "circular_accuracy", "scienceqa": "accuracy grades 1-6", "mmstar": "mean_of_categories", "seedbench": "unparsed",
    "cvbench": "cv_bench", "naturalbench": "group_accuracy", "winoground": "group_accuracy", "whatsup/a": "set_accuracy",
    "hallusionbench": "figure_accuracy", "vsr": "accuracy", "mmmu": "mean_of_subjects", "amber": "f1", "chair": "chair_s",
    "amber/generative": "hal",
}  # fmt: skip
OWN_PAIRS = ("naturalbench", "winoground")
PRECOMPUTED = (
    "--editor=precomputed", "--editor-option=folder=edited", "--editor-option=images={dataset}.png",
    "--editor-option=masks={dataset}-mask.png",
)  # fmt: skip
IN_THE_FILE = ("mmbench", "mmstar", "cvbench", "mmmu")
"""Those whose images stand in the file: they are 3 × 2 pixels."""
CAPTIONS = ("chair", "amber/generative")
"""A caption has no other caption that it could be held against: these have no pairs, and no heads are scanned on them."""
ANSWERS = ("A", "B", "C", "D", "woman", "beside", "bus", "0", "1", "sky", "man", "ship", "lake", ",")


def plain(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 24), colour).save(path, "PNG")


def edited(stem: Path, size: tuple[int, int]) -> None:
    """An edited image, and the mask of its left half."""
    stem.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, "white").save(f"{stem}.png")
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    mask.save(f"{stem}-mask.png")


def with_new_answers(path: Path, key: str) -> None:
    """Say beside every record of a file what its answer is on the edited image, which is what `precomputed` looks for."""
    if path.suffix == ".tsv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        choices.tsv(path, [row | {"corrupt_answer": "C"} for row in rows])
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    for row in content[key] if key else content:
        row["corrupt_answer"] = "B"
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny LLaVA with random weights whose words are also those of the answers, letters among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "build_tokenizer", partial(builders.build_tokenizer, words=(*builders.WORDS, *ANSWERS)))
        return str(builders.build_llava(tmp_path_factory.mktemp("lettered")))


@pytest.fixture
def names(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Small files of all of them in the working directory, under names of registry.yaml."""
    torch.set_num_threads(1)
    here = Path()
    for folder in ("scienceqa", "seed", "cvbench", "wino"):
        (here / folder).mkdir()
    choices.tsv(here / "mmbench.tsv", choices.mmbench_rows(1))
    choices.tsv(here / "mmstar.tsv", [row | {"answer": "B", "D": "grey"} for row in choices.mmbench_rows(2, copies=1)])
    choices.scienceqa(here / "scienceqa", 2)
    choices.seed(here / "seed", 2)
    choices.cvbench(here / "cvbench", 3)
    pairs.natural(here / "natural.parquet", 1)
    pairs.wino(here / "wino", 1)
    pairs.whatsup(here / "whatsup.json", 1)
    pairs.hallusion(here / "hallusion.json", 1)
    caption = {"caption": "The cat is left of the dog.", "relation": "left of", "label": 1}
    pairs.lines(here / "vsr.jsonl", [caption | {"image": "1.png"}])
    captions.mmmu(here / "mmmu", 1)
    captions.amber(here / "amber", 3)
    descriptions.amber(here / "described", 2)
    monkeypatch.setattr(amber_generative, "NounsAndVectors", lambda vectors: descriptions.TableOfWords())
    (here / "data" / "chair").mkdir(parents=True)
    captions.coco(here / "data" / "chair", 2)["instances"].rename(here / "data" / "chair" / "instances_val2014.json")
    for file, key in (("mmbench.tsv", ""), ("mmstar.tsv", ""), ("seed/SEED-Bench.json", "questions"), ("whatsup.json", "")):
        with_new_answers(here / file, key)
    for file in (*here.glob("cvbench/*.parquet"), *here.glob("mmmu/*/*.parquet")):
        table = parquet.read_table(file)
        parquet.write_table(table.append_column("corrupt_answer", [["C"] * len(table)]), file)
    images = ["1.png", "seed/0_0", "seed/1_7", *(f"wino/ex_0_img_{number}.png" for number in (0, 1))]
    images += [f"scienceqa/test/{number}/image.png" for number in (1, 2)]
    images += [f"cup0_{place}_chair.png" for place in ("on", "under", "left_of", "right_of")]
    images += [f"VD/chart/0_{figure}.png" for figure in (1, 2)]
    images += [f"amber/query/AMBER_{number}.jpg" for number in (2, 3, 4)]
    images += [f"described/query/AMBER_{number}.jpg" for number in (1, 2)]
    images += [f"data/chair/COCO_val2014_{number:012d}.jpg" for number in (1, 2)]
    for image in images:
        plain(here / image)
    mine = {f"my-{name.replace('/', '-')}": name for name in FILES}
    for own in mine:
        edited(here / "edited" / own, (3, 2) if mine[own] in IN_THE_FILE else (24, 24))
    entries = (f"  {own}: {{plugin: {name}, options: {{questions: {FILES[name]}}}}}\n" for own, name in mine.items())
    (here / "registry.yaml").write_text("datasets:\n" + "".join(entries))
    return mine


def test_the_benchmarks_are_checked_asked_and_scored(vseam: Vseam, names: dict[str, str]) -> None:
    for name in names:
        checked = vseam("datasets", "check", name, "--images", "--json")
        assert (checked.code, json.loads(checked.stdout)["problems"]) == (0, {}), name
    outcome = vseam("eval", "--model", "llava-tiny", *(f"--dataset={name}" for name in names), "--max-new-tokens=2", "--limit=2", "--json")
    assert outcome.code == 0, outcome.stderr
    for found in json.loads(outcome.stdout)["evaluations"]:
        figures = {row["metric"] for row in found["metrics"] if row["subset"] == "all"}
        assert {"accuracy", OFFICIAL[names[found["dataset"]]]} <= figures, found["dataset"]
        assert not found["skips"], found["dataset"]


def pairs_of(name: str) -> tuple[str, ...]:
    """The options that give the benchmark pairs: its own, or edited images of ours."""
    return ("--editor", "paired") if name in OWN_PAIRS else PRECOMPUTED


def goes_all_the_way(vseam: Vseam, model: str, own: str, name: str) -> None:
    """A benchmark's fixture is edited, traced and scanned; what cannot be is said."""
    made = vseam("edit", f"--dataset={own}", *pairs_of(name), "--pool=all", "--limit=1", "--json")
    tracing = (f"--model={model}", f"--dataset={own}", *pairs_of(name), "--tracer=groups", "--pool=all", "--limit=1", "--json")
    if name in CAPTIONS:
        assert (made.code, "does not say what the answer" in made.stderr) == (3, True), (name, made.stderr)
    else:
        assert made.code == 0, (name, made.stderr)
        traced = vseam("trace", *tracing)
        assert traced.code == 0, (name, traced.stderr)
    scanned = vseam("heads", "scan", f"--model={model}", f"--dataset={own}", "--operation=zero", "--pool=all", "--limit=2", "--json")
    if name in CAPTIONS:
        assert (scanned.code, "no competing answer is known" in scanned.stderr) == (2, True), (name, scanned.stderr)
    else:
        assert scanned.code == 0, (name, scanned.stderr)


@pytest.mark.slow
def test_every_benchmark_is_edited_traced_and_scanned(vseam: Vseam, model: str, names: dict[str, str]) -> None:
    for own, name in names.items():
        goes_all_the_way(vseam, model, own, name)
    stored = vseam(
        "query",
        "SELECT dataset, COUNT(DISTINCT method) AS n FROM runs WHERE method IN ('trace', 'head_scan') GROUP BY dataset HAVING n = 2",
        "--json",
    )
    assert {row[0] for row in json.loads(stored.stdout)["rows"]} == {own for own, name in names.items() if name not in CAPTIONS}


def test_the_other_image_of_a_group_is_traced_as_the_corrupt_one(vseam: Vseam, model: str, names: dict[str, str]) -> None:
    goes_all_the_way(vseam, model, "my-winoground", names["my-winoground"])
    stored = vseam("query", "SELECT DISTINCT direction FROM trace_effects ORDER BY 1", "--json")
    assert json.loads(stored.stdout)["rows"] == [["denoising"], ["noising"]]
