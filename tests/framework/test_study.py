"""Study files: what they may say, what is said about mistakes, and the tasks they expand to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vseam_core.config.study import Study, default_study
from vseam_core.config.study_file import check_names, load_study
from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import Registry, load_registry

MINIMAL = "models: [llava-tiny]\ndatasets: [scenes/color]\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)
    return load_registry(build_plugins())


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_two_lists_are_enough_for_a_study(study_file: Callable[[str], Path], registry: Registry) -> None:
    study = load_study(study_file(MINIMAL), registry)
    assert (study.models, study.datasets, study.seed, study.editor.name) == (["llava-tiny"], ["scenes/color"], 0, "scenes")


def test_an_editor_is_a_name_or_a_section(study_file: Callable[[str], Path], registry: Registry) -> None:
    bare = load_study(study_file(MINIMAL + "editor: recolor\n"), registry).editor
    section = "editor: {name: recolor, options: {strength: 0.5}, dilation: 2, pairs: passing, clip: models/clip}\n"
    whole = load_study(study_file(MINIMAL + section), registry).editor
    assert bare.identity() == "recolor"
    assert (whole.options, whole.planner, whole.mask, whole.dilation) == ({"strength": 0.5}, "lexicon", "box", 2)
    # What does not change the images is no part of what identifies a run.
    assert whole.identity() == {"name": "recolor", "options": {"strength": 0.5}, "dilation": 2}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("editor: recolour", r"study.yaml:3: editor: unknown editor 'recolour'; did you mean 'recolor'"),
        ("editor: {name: recolor, maks: box}", r"study.yaml:3: editor.maks: unknown field 'maks'; did you mean 'mask'"),
        ("editor: {name: recolor, planner: nobody}", r"study.yaml:3: editor.planner: unknown edit planner 'nobody'"),
        ("editor: {name: recolor, mask: nobody}", r"study.yaml:3: editor.mask: unknown mask provider 'nobody'"),
        ("editor: {name: recolor, dilation: -1}", r"study.yaml:3: editor.dilation: expected a number greater than or equal to 0"),
        ("editor: {name: recolor, pairs: good}", r"study.yaml:3: editor.pairs: expected 'all', 'passing' or 'accepted'"),
        ("editor: {name: inpaint, options: {trust_remote_code: true}}", r"study.yaml:3: .*a file may not set this"),
    ],
)
def test_mistakes_about_an_editor_are_named_with_their_line(
    study_file: Callable[[str], Path], registry: Registry, section: str, expected: str
) -> None:
    with pytest.raises(VseamError, match=expected):
        load_study(study_file(MINIMAL + section + "\n"), registry)


def test_a_bare_name_is_a_method_without_options(study_file: Callable[[str], Path]) -> None:
    study = load_study(study_file(MINIMAL + "tracers: [groups, {name: lens, options: {step: 2}}]\n"))
    assert [(method.name, method.options) for method in study.tracers] == [("groups", {}), ("lens", {"step": 2})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: [llava-tiny]\n", "study.yaml:1: missing field 'datasets'"),
        (MINIMAL + "sizes:\n  pears: 3\n", r"study.yaml:4: sizes.pears: unknown field 'pears'; did you mean 'pairs'\?"),
        (MINIMAL + "heads:\n- {operaton: zero}\n", r"study.yaml:4: heads.0.operaton: .* did you mean 'operation'"),
        (MINIMAL + "seed: -1\n", "study.yaml:3: seed: expected a number greater than or equal to 0, got -1"),
        (MINIMAL + "seed: true\n", "study.yaml:3: seed: expected an integer, got True"),
        (MINIMAL + "sizes: {pairs: many}\n", "study.yaml:3: sizes.pairs: expected an integer, got 'many'"),
        (
            MINIMAL + "heads: [{positions: al}]\n",
            "study.yaml:3: heads.0.positions: expected 'all', 'question', 'image' or 'last', got 'al'",
        ),
        (
            MINIMAL + "heads: [{operation: patch, direction: both}]\n",
            "study.yaml:3: heads.0.direction: expected 'noising' or 'denoising', got 'both'",
        ),
        (MINIMAL + "stages: [trace, trace]\n", "study.yaml:3: stages: 'trace' is listed twice"),
        (MINIMAL + "rescaling: {strengths: [.nan]}\n", "study.yaml:3: rescaling.strengths.0: expected a finite number"),
        ("models: []\ndatasets: [a]\n", "study.yaml:1: models: .*at least 1 item"),
        (MINIMAL + "tracers: [{name: lens, options: {trust_remote_code: true}}]", "study.yaml:3: .*may not set this"),
        (MINIMAL + "heads: [{options: {deep: {allow_pickle: true}}}]", "study.yaml:3: heads.0.options.deep.allow_pickle: "),
    ],
)
def test_a_mistake_gets_file_line_and_what_was_expected(study_file: Callable[[str], Path], text: str, expected: str) -> None:
    with pytest.raises(InvalidFileError, match=expected) as caught:
        load_study(study_file(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:\n- llava-tiny\n- lava-tiny\ndatasets: [scenes/color]\n", "study.yaml:3: models.1: .*did you mean 'llava-tiny'"),
        ("models: [llava-tiny]\ndatasets: [scenes/colour]\n", "study.yaml:2: datasets.0: .*did you mean 'scenes/color'"),
        (MINIMAL + "editor: scenery\n", "study.yaml:3: editor: .*did you mean 'scenes'"),
        (MINIMAL + "tracers: [group]\n", "study.yaml:3: tracers.0: .*did you mean 'groups'"),
        (MINIMAL + "heads: [{operation: zeros}]\n", "study.yaml:3: heads.0.operation: .*did you mean 'zero'"),
    ],
)
def test_an_unknown_name_gets_its_line_and_the_closest_names(
    study_file: Callable[[str], Path], registry: Registry, text: str, expected: str
) -> None:
    with pytest.raises(UnknownNameError, match=expected):
        load_study(study_file(text), registry)


def test_a_loader_is_no_model_of_a_study(study_file: Callable[[str], Path], registry: Registry) -> None:
    with pytest.raises(VseamError, match=r"study.yaml:1: models.0: model 'llava' is a loader"):
        load_study(study_file("models: [llava]\ndatasets: [scenes/color]\n"), registry)


def test_a_study_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match=r"missing.yaml: cannot be read: No such file"):
        load_study(tmp_path / "missing.yaml")


def test_the_default_study_names_only_what_is_there(registry: Registry) -> None:
    study = default_study()
    check_names(study, registry)
    assert len(study.expand()) >= len(study.models) * len(study.datasets) == 14


def test_a_study_expands_to_every_model_on_every_dataset() -> None:
    tasks = Study(models=["a", "b"], datasets=["x", "y"], stages=["trace", "evaluate"]).expand()
    assert [(task.model, task.dataset) for task in tasks] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert tasks[0].stages == ("evaluate", "trace"), "stages run in their natural order"


def test_random_models_are_traced_and_nothing_else() -> None:
    tasks = Study(models=["a"], datasets=["x"], random_models=5).expand()
    assert [(task.model, task.stages) for task in tasks[1:]] == [(f"a@random-{seed}", ("trace",)) for seed in range(1, 6)]
    assert len(Study(models=["a"], datasets=["x"], random_models=5, stages=["evaluate"]).expand()) == 1


def test_too_few_random_models_for_a_band_are_refused() -> None:
    with pytest.raises(VseamError, match="give 0 or at least 5"):
        Study(models=["a"], datasets=["x"]).with_overrides(random_models=4)


def test_the_identity_of_a_task_depends_on_what_changes_its_numbers_and_on_nothing_else() -> None:
    study = Study(models=["a"], datasets=["x"])

    def identity(changed: Study) -> str:
        return changed.expand()[0].identity

    same = [
        study.with_overrides(name="other"),
        study.with_overrides(limit=3),
        study.with_overrides(datasets=["x", "y"]),
        study.with_overrides(random_models=6),
        study.with_overrides(stages=["trace"]),
    ]
    assert {identity(other) for other in same} == {identity(study)}
    different = [
        study,
        *(study.with_overrides(**change) for change in ({"seed": 1}, {"donors": 6}, {"editor": "e"}, {"models": ["b"]})),
    ]
    assert len({identity(other) for other in different}) == len(different)


def test_a_limit_caps_every_size_and_raises_none() -> None:
    study = Study(models=["a"], datasets=["x"]).with_overrides(limit=50)
    assert (study.sizes.pairs, study.sizes.score, study.sizes.test) == (40, 50, 50)


def test_an_override_is_checked_like_a_file() -> None:
    with pytest.raises(VseamError, match="study: seed: "):
        Study(models=["a"], datasets=["x"]).with_overrides(seed=-1)
