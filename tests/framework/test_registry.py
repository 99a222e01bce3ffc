"""registry.yaml: user names beside those of plugins, and one clear line about everything that is wrong in it."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vseam_core.api.interfaces import Benchmark
from vseam_core.errors import InvalidFileError, NameClashError, UnknownNameError, VseamError
from vseam_core.experiments.selection import LIMIT_OF_ENDLESS, Selection, settled
from vseam_core.plugins.aliased_benchmark import RegisteredBenchmark
from vseam_core.plugins.discovery import Plugins, build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord, ModelRecord
from vseam_core.plugins.registry import Registry, load_registry


class TinyBenchmark(Benchmark):
    def __init__(self, color: str = "red", size: int = 1) -> None:
        self.color, self.size = color, size

    def samples(self, pool: str, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Any]:
        return iter(())

    def judge(self, sample: Any, answer: str) -> bool:
        return True


class EndlessBenchmark(TinyBenchmark):
    name, level, category, endless = "endless", "attribute", "color", True


@pytest.fixture
def plugins() -> Plugins:
    @hookimpl
    def vseam_datasets() -> Iterator[DatasetRecord]:
        yield DatasetRecord(name="tiny", summary="tiny questions", factory=TinyBenchmark, options={"size": 2})
        yield DatasetRecord(name="endless", summary="made as they are asked for", factory=EndlessBenchmark)

    @hookimpl
    def vseam_models() -> Iterator[ModelRecord]:
        yield ModelRecord(name="toy", summary="a loader", factory=dict)

    plugin = types.ModuleType("toys")
    plugin.__dict__.update(vseam_datasets=vseam_datasets, vseam_models=vseam_models)
    return build_plugins(local={"toys": plugin})


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: Plugins) -> Callable[[str], Registry]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VSEAM_REGISTRY", raising=False)

    def load(text: str) -> Registry:
        Path("registry.yaml").write_text(text, encoding="utf-8")
        return load_registry(plugins)

    return load


def test_names_of_plugins_work_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = load_registry(build_plugins())
    assert registry.model("llava-1.5-7b").record.source == "llava-hf/llava-1.5-7b-hf"
    assert registry.dataset("scenes/color").record.options == {"category": "color"}


def test_an_entry_builds_on_a_record_and_its_options_win(write: Callable[[str], Registry]) -> None:
    registry = write("datasets:\n  mine: {plugin: tiny, options: {color: blue}, summary: my own}\n")
    benchmark = registry.load_dataset("mine")
    assert (benchmark.color, benchmark.size) == ("blue", 2)
    assert registry.load_dataset("mine", color="green").color == "green"
    assert registry.dataset("mine").origin == "registry.yaml:2"
    assert [item.summary for item in registry.list_datasets() if item.name == "mine"] == ["my own"]


def test_a_built_in_name_is_overridden_only_by_saying_so(write: Callable[[str], Registry]) -> None:
    entry = "datasets:\n  scenes/color:\n    plugin: tiny\n"
    registry = write(entry)
    assert registry.dataset("scenes/animal")
    with pytest.raises(NameClashError, match=r"registry\.yaml:2 and vseam; .*`override: true`"):
        registry.dataset("scenes/color")
    assert "override: true" in next(item.problem for item in registry.list_datasets() if item.name == "scenes/color")
    assert write(entry + "    override: true\n").load_dataset("scenes/color").size == 2


def test_an_override_may_build_on_the_name_it_overrides(write: Callable[[str], Registry]) -> None:
    registry = write("datasets:\n  tiny: {plugin: tiny, override: true, options: {size: 9}}\n")
    assert registry.load_dataset("tiny").size == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modls: {}", r"registry.yaml:1: modls: unknown field 'modls'; did you mean 'models'\?"),
        ("models:\n  a:\n    plugn: llava\n", r"registry.yaml:3: models.a.plugn: unknown field 'plugn'; did you mean 'plugin'\?"),
        ("models:\n\n  a:\n    options: {}\n", "registry.yaml:3: models.a: missing field 'plugin'"),
        ("models:\n  a:\n    plugin: 3\n", "registry.yaml:3: models.a.plugin: expected a string, got 3"),
        ("models:\n  a: {plugin: llava, override: maybe}", "registry.yaml:2: models.a.override: expected a boolean, got 'maybe'"),
        ("models: [llava]", "registry.yaml:1: models: expected a dictionary, got a list"),
        ("just text", "registry.yaml:1: expected a mapping of models, datasets, got 'just text'"),
        ("models:\n  'a b': {plugin: llava}", "registry.yaml:2: models.a b: expected a name of letters"),
        ("models:\n  a: {plugin: llava}\n  a: {plugin: hf}", "registry.yaml:3: 'a' is given twice"),
        ("models:\n  a: {plugin: llava", "registry.yaml:2: not valid YAML"),
        ("models:\n\ta: b", "registry.yaml:2: not valid YAML"),
        ("models: !!python/object/apply:os.system ['true']", "registry.yaml:1: not valid YAML"),
        ("models: &a {x: *a}", "registry.yaml:1: nested too deeply"),
        ("models: {" * 5000, "nested too deeply"),
    ],
)
def test_an_invalid_file_gets_file_line_and_what_was_expected(write: Callable[[str], Registry], text: str, expected: str) -> None:
    with pytest.raises(InvalidFileError, match=expected) as caught:
        write(text)
    assert "\n" not in str(caught.value)


def test_aliases_that_unfold_into_billions_are_refused_at_once(write: Callable[[str], Registry]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    with pytest.raises(InvalidFileError, match="more than 20000 values"):
        write("\n".join(lines))


@pytest.mark.parametrize("option", ["trust_remote_code: true", "nested: {Trust-Remote-Code: true}", "list: [{allow_pickle: 1}]"])
def test_a_file_never_switches_on_code(write: Callable[[str], Registry], option: str) -> None:
    with pytest.raises(InvalidFileError, match=r"registry.yaml:3: .*a file may not set this"):
        write(f"models:\n  a:\n    options: {{{option}}}\n    plugin: llava\n")


def test_an_unknown_plugin_in_an_entry_harms_only_that_name(write: Callable[[str], Registry]) -> None:
    registry = write("datasets:\n  mine: {plugin: tinny}\n")
    assert registry.load_dataset("tiny").size == 2
    with pytest.raises(UnknownNameError, match=r"registry.yaml:2: dataset 'mine': plugin: unknown dataset 'tinny'; did you mean 'tiny'"):
        registry.dataset("mine")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lava-tiny", "did you mean 'llava-tiny'"),
        ("./nowhere", "expected a checkpoint folder there"),
        ("llava-tiny@random-x", "expected NAME@random-SEED"),
        ("lava-tiny@random-3", "did you mean 'llava-tiny'"),
    ],
)
def test_an_unknown_model_gets_the_closest_names(write: Callable[[str], Registry], name: str, expected: str) -> None:
    with pytest.raises(UnknownNameError, match=expected):
        write("").model(name)


def test_an_unknown_dataset_gets_the_closest_names(write: Callable[[str], Registry]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'scenes/color'"):
        write("").dataset("scenes/colour")


def test_a_random_suffix_is_the_same_model_with_a_seed(write: Callable[[str], Registry]) -> None:
    spec = write("").model("llava-tiny@random-3")
    assert (spec.name, spec.record.name, spec.options) == ("llava-tiny@random-3", "llava-tiny", {"random_seed": 3})


def test_a_checkpoint_folder_and_a_hub_id_are_model_names(write: Callable[[str], Registry], tmp_path: Path) -> None:
    registry = write("")
    (tmp_path / "trained").mkdir()
    assert registry.model("./trained").options == {"source": "trained"}
    assert registry.model("trained").record.name == "hf"
    assert registry.model("acme/vlm-2b").options == {"source": "acme/vlm-2b"}


def test_a_loader_without_a_source_says_what_to_add(write: Callable[[str], Registry]) -> None:
    with pytest.raises(VseamError, match="model 'toy' is a loader and needs a source"):
        write("").load_model("toy")


def test_a_misspelt_source_is_shown(write: Callable[[str], Registry]) -> None:
    with pytest.raises(VseamError, match=r"model 'mine' is a loader and needs a source \(its options are sourc\)"):
        write("models: {mine: {plugin: hf, options: {sourc: trained}}}").load_model("mine")


def test_a_source_in_a_file_counts_from_the_folder_of_the_file(write: Callable[[str], Registry], plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "below" / "weights").mkdir(parents=True)
    file = tmp_path / "below" / "names.yaml"
    file.write_text("models:\n  a: {plugin: toy, options: {source: ./weights}}\n  b: {plugin: toy, options: {source: org/name}}\n")
    registry = load_registry(plugins, file)
    assert Path(registry.model("a").options["source"]) == tmp_path / "below" / "weights"
    assert registry.model("b").options["source"] == "org/name"


def test_the_given_path_wins_over_the_environment_and_that_over_the_working_directory(
    write: Callable[[str], Registry], plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(registry: Registry) -> set[str]:
        return set(registry.datasets)

    for name in ("option", "variable"):
        (tmp_path / f"{name}.yaml").write_text(f"datasets: {{{name}: {{plugin: tiny}}}}")
    assert names(write("datasets: {folder: {plugin: tiny}}")) == {"folder"}
    monkeypatch.setenv("VSEAM_REGISTRY", "variable.yaml")
    assert names(load_registry(plugins)) == {"variable"}
    assert names(load_registry(plugins, "option.yaml")) == {"option"}
    with pytest.raises(InvalidFileError, match="no such registry file"):
        load_registry(plugins, "missing.yaml")


def test_the_registry_file_of_the_project_is_valid_and_usable() -> None:
    file = Path(__file__).parents[2] / "registry.yaml"
    registry = load_registry(build_plugins(), file)
    assert registry.models or registry.datasets
    assert not [item for item in [*registry.list_models(), *registry.list_datasets()] if item.problem]


def test_a_dataset_under_a_name_of_the_users_answers_everything_as_the_one_it_builds_on(write: Callable[[str], Registry]) -> None:
    class Told(TinyBenchmark):
        """Says for every attribute and method of the interface something that the interface itself does not."""

        version, endless = 7, True
        level, category, name = "attribute", "color", "told"

        def __getattribute__(self, name: str) -> Any:
            if name.startswith("_") or not callable(getattr(Benchmark, name, None)):
                return super().__getattribute__(name)
            return lambda *arguments, **named: [name] if name == "samples" else name

    aliased = RegisteredBenchmark(Told(), "mine")
    arguments = {"judge": ("", ""), "score": ("", ""), "metrics": ([],), "control_edit": ("",)}
    for name in sorted({*vars(Benchmark), *Benchmark.__annotations__} - {"name", "samples"}):
        if not name.startswith("_"):
            found, told = getattr(aliased, name), getattr(Told(), name)
            assert (found(*arguments.get(name, ())) if callable(found) else found) == (told() if callable(told) else told), name


def test_an_endless_dataset_under_a_name_of_the_users_stays_endless(write: Callable[[str], Registry]) -> None:
    registry = write("datasets:\n  mine: {plugin: endless}\n")
    benchmark = registry.load_dataset("mine")
    assert benchmark.name == "mine"
    assert settled(Selection(), benchmark) == Selection("test", "plain", LIMIT_OF_ENDLESS, 0)
