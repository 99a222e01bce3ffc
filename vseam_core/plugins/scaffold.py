"""Writes the skeleton of a plugin package: one working record of each wanted kind, with tests that inherit the conformance suites."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vseam_core.errors import VseamError, did_you_mean

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class _Part:
    """What a kind of record adds: the hook, the module with its class, and the test."""

    def __init__(self, hook: str, record: str, module: str, code: str, suite: str, test: str):
        self.hook, self.record, self.module, self.code, self.suite, self.test = hook, record, module, code, suite, test


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
    written = []
    for path, text in plugin_files(name, kinds).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def plugin_files(name: str, kinds: Sequence[str]) -> Mapping[str, str]:
    """The files of a skeleton, by their path inside the distribution."""
    package = f"vseam_{name.replace('-', '_')}"
    parts = [KINDS[kind] for kind in dict.fromkeys(kinds)]
    words = {"NAME": name, "PACKAGE": package}
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"{package}/__init__.py": '"""A plugin package for vseam."""\n',
        f"{package}/plugin.py": _plugin_module(parts),
        **{f"{package}/{part.module}.py": part.code for part in parts},
        "tests/test_plugin.py": _test_module(parts),
    }
    return {path: _filled(text, words) for path, text in files.items()}


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text.lstrip("\n")


def _plugin_module(parts: Sequence[_Part]) -> str:
    records = sorted({part.record.split("(")[0] for part in parts})
    hooks = "".join(f"\n\n@hookimpl\ndef {part.hook}():\n    yield {part.record}\n" for part in parts)
    return (
        '"""What this package registers. Imported whenever vseam starts: import nothing heavy here."""\n\n'
        "from vseam_core.plugins.hookspecs import hookimpl\n"
        f"from vseam_core.plugins.specs import {', '.join(records)}\n\nPLUGIN_API = 1\n{hooks}"
    )


def _test_module(parts: Sequence[_Part]) -> str:
    suites = sorted({part.suite for part in parts})
    imports = "".join(f"from PACKAGE.{part.module} import {part.test}\n" for part in parts)
    tests = "".join(f"\n\nclass Test{part.test}({part.suite}):\n{_MAKE.get(part.suite, _PLAIN_MAKE.format(part.test))}" for part in parts)
    extra = "from vseam_core.testing.pictures import sample\n" if any(part.suite == "EditorConformance" for part in parts) else ""
    head = '"""The promises that vseam relies on; each test is one of them."""\n\n'
    return f"{head}from vseam_core.testing import {', '.join(suites)}\n{extra}\n{imports}{tests}"


_PLAIN_MAKE = "    def make(self):\n        return {}()\n"
_MAKE = {
    "ModelConformance": '    def make(self):\n        return load("NAME", "random")\n',
    "EditorConformance": (
        "    def make(self):\n        return InvertEditor()\n\n    def samples(self):\n        return [sample(seed) for seed in range(3)]\n"
    ),
}

_PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "vseam-NAME"
version = "0.1.0"
description = "A plugin for vseam."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["vseam"]

[project.entry-points.vseam]
NAME = "PACKAGE.plugin"

[tool.setuptools]
packages = ["PACKAGE"]
"""

_README = """
# vseam-NAME

A plugin for [vseam](https://pypi.org/project/vseam). What it registers is in `PACKAGE/plugin.py`.

    pip install --editable .
    vseam plugins      # it is listed
    pytest             # the promises that vseam relies on

Replace what the skeleton does by what you want, one class at a time; the tests say when a promise breaks.
"""

_MODEL = '''
"""A model. The skeleton's is a tiny LLaVA with random weights: replace it by yours."""

from vseam_core.testing.tiny import TinyModel


class Model(TinyModel):
    """Encodes, answers and generates; see vseam_core.api.interfaces.VisionLanguageModel for what each method promises."""


def load(name, source, *, device="auto", dtype=None, random_seed=None, **options):
    """What `vseam --model NAME` calls. `source` is the record's folder or hub id."""
    return Model(name, seed=random_seed or 0)
'''

_BENCHMARK = '''
"""A benchmark: questions about pictures with gold answers."""

from dataclasses import dataclass

from PIL import Image

from vseam_core.datasets.file_benchmark import pool_of
from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import RoleSpan, Sample

COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220)}


@dataclass(frozen=True)
class Plain:
    """A picture of one colour, a little different for every number."""

    colour: str
    number: int

    def load(self):
        shift = self.number % 20
        return Image.new("RGB", (64, 64), tuple(min(255, value + shift) for value in COLOURS[self.colour]))


class ColourBenchmark(Benchmark):
    """Is the picture red? Replace it by your questions; read files with vseam_core.datasets.file_benchmark.FileBenchmark."""

    name, level, category = "NAME/colours", "attribute", "color"

    def samples(self, pool, split="plain", limit=None, seed=0):
        made = 0
        for number in range(600):
            picture = f"NAME/{number}"
            if pool not in ("all", pool_of(picture)) or (limit is not None and made >= limit):
                continue
            colour, asked = list(COLOURS)[number % 3], list(COLOURS)[(number // 2) % 3]
            question = f"Is the picture {asked}?"
            start = question.index(asked)
            answer = "Yes" if colour == asked else "No"
            made += 1
            yield Sample(
                identifier=f"{self.name}/{number}", dataset=self.name, question_id=str(number), image_id=picture,
                image=Plain(colour, number), question=question, answer=answer, competitor="No" if answer == "Yes" else "Yes",
                level="attribute", category=self.category, pool=pool_of(picture),
                roles=(RoleSpan(start, start + len(asked), "attribute"),),
            )

    def judge(self, sample, answer):
        return answer.strip().rstrip(".").lower() == sample.answer.lower()
'''

_EDITOR = '''
"""An editor: changes one thing of a picture so that the true answer changes."""

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageOps

from vseam_core.errors import SampleError
from vseam_core.api.interfaces import Editor
from vseam_core.api.types import Pair


@dataclass(frozen=True)
class Inverted:
    """A picture with the colours of one box inverted."""

    original: Any
    box: tuple

    def load(self):
        picture = self.original.load().copy()
        box = tuple(int(value) for value in self.box)
        picture.paste(ImageOps.invert(picture.crop(box)), box)
        return picture


class InvertEditor(Editor):
    """Inverts the colours of the first annotated thing. To paint inside a mask only, write a Painter instead."""

    name = "NAME-invert"

    def edit(self, sample, seed=0):
        if not sample.objects or sample.competitor is None:
            raise SampleError(f"{sample.identifier}: needs an annotated thing and a yes/no question")
        box = sample.objects[0].box
        clean = replace(sample, competitor=sample.competitor)
        corrupt = replace(
            sample, identifier=f"{sample.identifier}/edit", image=Inverted(sample.image, box), answer=sample.competitor,
            competitor=sample.answer,
        )
        return Pair(clean, corrupt, (box,), self.name, sample.objects[0].name, "inverted")
'''

_TRACER = '''
"""A tracer: which runs to make on a pair of pictures, and what their results mean. Only the engine runs models."""

import numpy as np

from vseam_core.api.interfaces import Tracer
from vseam_core.api.interventions import AnswerScore, Patch, Run, Site, SiteEdit
from vseam_core.api.types import TraceEffect


class WindowPatching(Tracer):
    """Patches the residual of `width` layers at once at the question's positions, clean into corrupt."""

    name = "NAME-windows"

    def __init__(self, width=2):
        self.width = width

    def options(self):
        return {"width": self.width}

    def _starts(self, context):
        return range(context.shape.layers - self.width + 1)

    def plan(self, context):
        readouts = (AnswerScore(context.answer),)
        positions = context.clean.positions("question")
        runs = [Run(context.clean, readouts), Run(context.corrupt, readouts)]
        for start in self._starts(context):
            sites = [Site(layer, "residual_after", stack=context.shape.stack) for layer in range(start, start + self.width)]
            runs.append(Run(context.corrupt, readouts, tuple(SiteEdit(site, Patch(), positions) for site in sites), context.clean))
        return runs

    def effects(self, context, results):
        clean, corrupt, *patched = [result.answer.logit_diff for result in results]
        values = np.array([[value - corrupt] for value in patched], dtype=np.float32)
        layers = tuple(self._starts(context))
        return [
            TraceEffect(
                self.name, context.shape.stack, "residual_after", "denoising", "logit_diff", layers, ("question",), "group", ("question",),
                values, clean, corrupt,
            )
        ]
'''

_HEADS = '''
"""A head intervention: what the outputs of attention heads become."""

from vseam_core.api.interfaces import HeadIntervention, Variant
from vseam_core.api.interventions import Scale, Site, SiteEdit


class DampHeads(HeadIntervention):
    """Multiplies the heads' outputs by a factor."""

    name = "NAME-damp"

    def __init__(self, factor=0.5):
        self.factor = factor

    def options(self):
        return {"factor": self.factor}

    def interventions(self, heads, context):
        edits = [
            SiteEdit(Site(head.layer, "head_output", head.head, head.stack), Scale(self.factor), context.positions) for head in heads
        ]
        return [Variant(tuple(edits))]
'''

KINDS: Mapping[str, _Part] = {
    "model": _Part(
        "vseam_models",
        'ModelRecord(name="NAME", summary="a tiny random model", factory="PACKAGE.model:load", source="random")',
        "model", _MODEL, "ModelConformance", "load",
    ),
    "benchmark": _Part(
        "vseam_datasets",
        'DatasetRecord(name="NAME/colours", summary="is the picture red?", factory="PACKAGE.benchmark:ColourBenchmark")',
        "benchmark", _BENCHMARK, "BenchmarkConformance", "ColourBenchmark",
    ),
    "editor": _Part(
        "vseam_editors",
        'EditorRecord(name="NAME-invert", summary="inverts the colours of a thing", factory="PACKAGE.editor:InvertEditor")',
        "editor", _EDITOR, "EditorConformance", "InvertEditor",
    ),
    "tracer": _Part(
        "vseam_tracers",
        'TracerRecord(name="NAME-windows", summary="patches windows of layers", factory="PACKAGE.tracer:WindowPatching")',
        "tracer", _TRACER, "TracerConformance", "WindowPatching",
    ),
    "head-intervention": _Part(
        "vseam_head_interventions",
        'HeadInterventionRecord(name="NAME-damp", summary="damps heads", factory="PACKAGE.heads:DampHeads")',
        "heads", _HEADS, "HeadInterventionConformance", "DampHeads",
    ),
}  # fmt: skip
