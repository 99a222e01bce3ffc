"""Writes the skeleton of a plugin package: one working record of each wanted kind, with tests that inherit the conformance suites.

The text of every file lies in `templates/`: what each package has at the top, what a kind adds in the folder of its name (its module, its
hook, its test). `$name` and `$package` are filled in.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from vseam_core.errors import VseamError, did_you_mean

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class _Kind:
    """What the files of a kind are about: its module, the record it yields, its conformance suite, and what the test makes."""

    module: str
    record: str
    suite: str
    product: str
    test_imports: tuple[str, ...] = ()


KINDS: Mapping[str, _Kind] = {
    "model": _Kind("model", "ModelRecord", "ModelConformance", "load"),
    "benchmark": _Kind("benchmark", "DatasetRecord", "BenchmarkConformance", "ColourBenchmark"),
    "editor": _Kind("editor", "EditorRecord", "EditorConformance", "InvertEditor", ("from vseam_core.testing.images import sample",)),
    "tracer": _Kind("tracer", "TracerRecord", "TracerConformance", "WindowPatching"),
    "head-intervention": _Kind("heads", "HeadInterventionRecord", "HeadInterventionConformance", "DampHeads"),
    "generation-method": _Kind("generation", "GenerationMethodRecord", "GenerationMethodConformance", "GreyContrast"),
}


def write_plugin(name: str, kinds: Sequence[str], folder: Path) -> list[Path]:
    """Write a distribution `vseam-NAME` into `folder`/vseam-NAME and return its files.

    Raises `VseamError` for a name that is no plain lower-case name, for an unknown kind, and where the folder is already there.
    """
    if not _NAME.fullmatch(name):
        raise VseamError(f"plugin name {name!r}: expected lower-case letters, digits and single hyphens, such as my-plugin")
    for kind in kinds:
        if kind not in KINDS:
            raise VseamError(f"unknown kind {kind!r}; {did_you_mean(kind, KINDS)}")
    root = folder / f"vseam-{name}"
    if root.exists():
        raise VseamError(f"{root} is already there; nothing is overwritten: choose another name or move it away")
    files = plugin_files(name, kinds)
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=folder))
    try:
        for path, text in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, encoding="utf-8")
        made.chmod(0o755)  # a temporary folder is for its owner only
        made.rename(root)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return [root / path for path in files]


def plugin_files(name: str, kinds: Sequence[str]) -> Mapping[str, str]:
    """The files of a skeleton, by their path inside the distribution."""
    words = {"name": name, "package": f"vseam_{name.replace('-', '_')}"}
    package, wanted = words["package"], {kind: KINDS[kind] for kind in kinds}
    hooks = "".join(f"\n\n{_filled(f'{kind}/hook.py', words)}" for kind in wanted)
    records = ", ".join(sorted({kind.record for kind in wanted.values()}))
    return {
        "pyproject.toml": _filled("pyproject.toml", words),
        "README.md": _filled("README.md", words),
        f"{package}/__init__.py": '"""A plugin package for vseam."""\n',
        f"{package}/plugin.py": _filled("plugin.py", {"records": records, "hooks": hooks}),
        **{f"{package}/{kind.module}.py": _filled(f"{name}/{kind.module}.py", words) for name, kind in wanted.items()},
        "tests/test_plugin.py": _tests(wanted, words),
    }


def _tests(wanted: Mapping[str, _Kind], words: Mapping[str, str]) -> str:
    suites = ", ".join(sorted({kind.suite for kind in wanted.values()}))
    core = [f"from vseam_core.testing import {suites}", *(line for kind in wanted.values() for line in kind.test_imports)]
    own = [f"from {words['package']}.{kind.module} import {kind.product}" for kind in wanted.values()]
    tests = "".join(f"\n\n{_filled(f'{name}/test.py', words)}" for name in wanted)
    return _filled("test_plugin.py", {"imports": "\n".join([*core, "", *own]), "tests": tests})


def _filled(template: str, words: Mapping[str, str]) -> str:
    text = (files(__name__) / "templates" / f"{template}.template").read_text(encoding="utf-8")
    return Template(text).substitute(words)
