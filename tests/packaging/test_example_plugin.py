"""The example package, built as a wheel and installed beside vseam's own wheel in an environment that knows nothing of this tree.

Beside it lie a plugin that cannot be imported, one written for another interface, and one that claims a name of the example's.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "vseam-smolvlm"
CLASHING_NAME = "smolvlm-256m-own-prompt"
BROKEN = {
    "vseam-gone": ("gone", "import a_package_that_nobody_has\n"),
    "vseam-future": ("future", "PLUGIN_API = 99\n"),
    "vseam-rival": (
        "rival",
        "from vseam_core.plugins.hookspecs import hookimpl\nfrom vseam_core.plugins.records import ModelRecord\n\n"
        "@hookimpl\ndef vseam_models():\n"
        f"    yield ModelRecord(name={CLASHING_NAME!r}, summary='another one', factory='nowhere:load', source='a/b')\n",
    ),
}
Vseam = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with both wheels and the three troublemakers; packages that vseam depends on come from this one."""
    root = tmp_path_factory.mktemp("clean")
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "reports", "results.db*", "tests", "perf", "studies")
    for source, name in ((ROOT, "vseam"), (EXAMPLE, "example")):
        shutil.copytree(source, root / name, ignore=unwanted)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root / "wheels"), str(root / name)]
        subprocess.run(build, check=True, capture_output=True, cwd=root)
    environment = root / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    wheels = [str(wheel) for wheel in (root / "wheels").glob("*.whl")]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", *wheels]
    subprocess.run(install, check=True, capture_output=True, cwd=root)
    (site,) = environment.glob("lib/python*/site-packages")
    for distribution, (module, code) in BROKEN.items():
        (site / f"vseam_{module}_plugin.py").write_text(code, encoding="utf-8")
        folder = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
        (folder / "entry_points.txt").write_text(f"[vseam]\n{module} = vseam_{module}_plugin\n", encoding="utf-8")
    # Written after installing, so that the installer sees an empty environment.
    homes = dict.fromkeys([str(Path(torch.__file__).parents[1]), sysconfig.get_paths()["purelib"]])
    (site / "dependencies.pth").write_text("\n".join(homes) + "\n", encoding="utf-8")
    build_checkpoint = [
        str(python),
        "-c",
        "import sys, checkpoint, pathlib; checkpoint.build(pathlib.Path(sys.argv[1]))",
        str(root / "tiny"),
    ]
    subprocess.run(build_checkpoint, check=True, capture_output=True, env=_variables(PYTHONPATH=str(EXAMPLE / "tests")), cwd=root)
    return environment


@pytest.fixture
def vseam(clean: Path, tmp_path: Path) -> Vseam:
    """Runs the installed `vseam` command in an empty folder whose registry.yaml names the tiny checkpoint."""
    source = clean.parent / "tiny"
    text = f"models:\n  mine: {{plugin: smolvlm, options: {{source: {source}}}}}\n"
    (tmp_path / "registry.yaml").write_text(text, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(clean / "bin" / "vseam"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=_variables(), timeout=240)

    return run


def _variables(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VSEAM_", "PYTHON"))}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


@pytest.mark.timeout(300)
def test_everything_is_listed_the_broken_with_their_reason_and_the_clash_with_both_owners(vseam: Vseam, clean: Path) -> None:
    where = [str(clean / "bin" / "python"), "-c", "import vseam_core, vseam_smolvlm; print(vseam_core.__file__, vseam_smolvlm.__file__)"]
    for path in subprocess.run(where, capture_output=True, text=True, check=True, cwd=clean, env=_variables()).stdout.split():
        assert Path(path).is_relative_to(clean)
    outcome = vseam("plugins", "--json")
    assert outcome.returncode == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    supplied = {item["name"]: item["supplies"] for item in found["plugins"]}["smolvlm"]
    assert supplied == {
        "models": ["smolvlm", CLASHING_NAME],
        "datasets": ["smolvlm/shapes"],
        "editors": ["smolvlm-shapes"],
    }
    broken = {item["distribution"]: item["reason"] for item in found["broken"]}
    assert set(broken) == {"vseam-gone", "vseam-future"}
    assert "a_package_that_nobody_has" in broken["vseam-gone"]
    assert "99" in broken["vseam-future"]
    (clash,) = found["clashes"]
    assert (clash["name"], set(clash["distributions"])) == (CLASHING_NAME, {"vseam-smolvlm", "vseam-rival"})


@pytest.mark.timeout(300)
def test_a_clash_is_an_error_only_where_the_name_is_asked_for(vseam: Vseam) -> None:
    listed = vseam("models", "--json")
    assert listed.returncode == 0, listed.stderr
    problems = {item["name"]: item["problem"] for item in json.loads(listed.stdout)["models"]}
    assert problems["mine"] is None
    assert "vseam-rival" in problems[CLASHING_NAME]
    asked = vseam("models", "show", CLASHING_NAME)
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert "vseam-smolvlm" in asked.stderr
    assert "vseam-rival" in asked.stderr
    without = vseam("--no-plugin", "rival", "models", "show", CLASHING_NAME)
    assert without.returncode == 0, without.stderr
    assert "HuggingFaceTB/SmolVLM-256M-Instruct" in without.stdout


@pytest.mark.timeout(300)
def test_its_model_is_traced_and_evaluated_on_its_benchmark(vseam: Vseam) -> None:
    given = ("--model", "mine", "--dataset", "smolvlm/shapes", "--limit", "3", "--json")
    traced = vseam("trace", *given, "--editor", "smolvlm-shapes", "--tracer", "groups")
    assert traced.returncode == 0, traced.stderr
    counted = vseam("query", "select count(*) as n from trace_effects", "--json")
    assert counted.returncode == 0, counted.stderr
    # Three pairs, two directions, at least logit_diff.
    assert json.loads(counted.stdout)["rows"][0][0] >= 6
    evaluated = vseam("eval", *given)
    assert evaluated.returncode == 0, evaluated.stderr
    report = json.loads(evaluated.stdout)
    assert report["schema"] == "vseam.eval/1"
    assert '"mine"' in evaluated.stdout


@pytest.mark.timeout(300)
def test_the_commands_on_the_page_about_plugins_work_as_written(vseam: Vseam, clean: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for line in page.splitlines() if line.startswith("    ") and "class" not in line]
    commands = [shlex.split(line) for line in lines if line.split(" ")[0] in ("vseam", "pip", "pytest", "python")]
    assert len(commands) == 5
    python = str(clean / "bin" / "python")
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    for program, *words in commands:
        # The environment has no pip and no network: this one's installs into it, and packages are built without isolation.
        command = {
            "vseam": [str(clean / "bin" / "vseam"), *words],
            "pip": [sys.executable, "-m", "pip", "--python", python, *words[:1], *offline, *words[1:]],
            "pytest": [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
            "python": [sys.executable, *words, "--no-isolation"],
        }[program]
        outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=_variables(), timeout=240)
        assert outcome.returncode == 0, (command, outcome.stdout[-2000:], outcome.stderr[-2000:])
        if words == ["plugins"]:
            assert "my-plugin-windows" in outcome.stdout
    assert list(tmp_path.glob("vseam-my-plugin/dist/*.whl"))
    given = ("--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "3", "--json")
    traced = json.loads(vseam("trace", *given, "--tracer", "my-plugin-windows").stdout)
    assert [table["title"].split(":")[0] for table in traced["tables"]] == ["Strongest cells of my-plugin-windows"]
    drawn = [Path(file).name for file in traced["figures"]]
    assert drawn == ["my-plugin-windows_llava-tiny.png", "my-plugin-windows_llava-tiny.svg", "index.html"]


@pytest.mark.timeout(300)
def test_a_package_with_a_plugin_of_every_kind_is_listed(vseam: Vseam, clean: Path, tmp_path: Path) -> None:
    assert vseam("plugins", "new", "my-own").returncode == 0
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", str(tmp_path / "vseam-my-own")]
    install = [sys.executable, "-m", "pip", "--python", str(clean / "bin" / "python"), "install", *offline]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    listed = vseam("plugins").stdout
    for name in ("my-own/colours", "my-own-invert", "my-own-windows", "my-own-damp", "my-own-grey"):
        assert name in listed


def test_the_example_imports_the_core_alone() -> None:
    files = [*EXAMPLE.rglob("*.py")]
    assert len(files) >= 6
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith(("vseam_plugins", "vseam_cli"))], file


@pytest.mark.timeout(300)
def test_its_own_tests_pass_in_the_clean_environment(clean: Path) -> None:
    command = [str(clean / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=clean, env=_variables())
    assert outcome.returncode == 0, outcome.stdout[-3000:]
    assert " passed" in outcome.stdout
