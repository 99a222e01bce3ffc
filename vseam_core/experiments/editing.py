"""Makes the edits of a dataset: pairs and control pairs, checked, kept in the folder of edits and written to the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from vseam_core.api.interfaces import Benchmark, Editor
from vseam_core.api.types import Pair, PoolChoice, Sample, Skip
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.editing.building import build_editor
from vseam_core.editing.checks import judge
from vseam_core.editing.composed import ComposedEditor, pairs_of_sample
from vseam_core.editing.folder import EditFolder
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.experiments.encoding import encode_sample
from vseam_core.runs.workspace import LoadedModel, Workspace


@dataclass(frozen=True)
class EditOptions:
    """Which samples to edit and how. `only_controls` makes control edits alone.

    `model` and `second_model` answer both images of each pair: whether their answers change as planned is a check.
    """

    editor: EditorChoice
    pool: PoolChoice = "test"
    split: str | None = None
    limit: int = 8
    only_controls: bool = False
    model: str | None = None
    second_model: str | None = None


@dataclass
class EditRun:
    """The edits of some datasets in progress; `skips` grows as samples turn out not to be editable."""

    workspace: Workspace
    options: EditOptions
    skips: list[Skip] = field(default_factory=list)

    def pairs(self, datasets: Sequence[str]) -> Iterator[Pair]:
        """Every pair, stored as soon as it is made, so that an interrupted run goes on where it stopped."""
        folder = EditFolder(self.workspace.edits)
        editor = build_editor(self.workspace.plugins, self.options.editor, folder, self.workspace.store.is_accepted)
        for name in datasets:
            benchmark = self.workspace.benchmark(name)
            split = self.options.split or benchmark.splits()[0]
            for sample in benchmark.samples(self.options.pool, split, self.options.limit, self.workspace.seed):
                for pair in self._made(editor, sample):
                    checked = self._answered(pair, benchmark, folder)
                    self.workspace.store.save_pairs([checked])
                    yield checked
        editor.release()

    def _made(self, editor: Editor, sample: Sample) -> Sequence[Pair]:
        seed = self.workspace.seed
        try:
            if not self.options.only_controls:
                return pairs_of_sample(editor, sample, seed)
            control = editor.control(sample, seed)
            controls = editor.controls(sample, seed) if isinstance(editor, ComposedEditor) else [control] if control else []
            if controls:
                return controls
            raise SampleError("no control edit is possible")
        except SampleError as error:
            self.skips.append(Skip(sample.identifier, str(error).removeprefix(f"{sample.identifier}: ")))
            return ()

    def _answered(self, pair: Pair, benchmark: Benchmark, folder: EditFolder) -> Pair:
        """The pair with the answers of the models as checks, and judged again."""
        names = {"flip_model": self.options.model, "flip_second": self.options.second_model}
        flips = {check: flipped(self.workspace.model(name), benchmark, pair) for check, name in names.items() if name}
        known = {check: float(value) for check, value in flips.items() if value is not None}
        if not known or pair.kind == "control":
            return pair
        checks = {**pair.checks, **known}
        if pair.record is None:
            return replace(pair, checks=checks)
        stored = folder.find(pair.editor, pair.clean.identifier, pair.record.key)
        if stored is not None:
            folder.update(stored, checks=checks, answered_by={check: name for check, name in names.items() if check in known})
        verdict, reason = judge(checks)
        return replace(pair, checks=checks, record=replace(pair.record, verdict=verdict, reason=reason))


def flipped(loaded: LoadedModel, benchmark: Benchmark, pair: Pair) -> bool | None:
    """Whether a model gives the clean answer on the clean image and the corrupt one on the corrupt image.

    By the benchmark's official rule on free answers; None where one of the images cannot be encoded.
    """
    samples = (pair.clean, pair.corrupt)
    try:
        prompts = [encode_sample(loaded, sample).prompt for sample in samples]
        texts = loaded.model.generate(prompts)
    except (SampleError, UnsupportedError):
        return None
    return all(benchmark.judge(sample, text) for sample, text in zip(samples, texts, strict=True))
