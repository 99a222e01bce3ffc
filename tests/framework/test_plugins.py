"""Finding plugins: every installed one is found the same way, and a bad one harms nobody who does not ask for it."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import pytest

from vseam_core.errors import NameClashError, PluginError, UnknownNameError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord, EditorRecord, EditPlannerRecord, HeadInterventionRecord, ModelRecord, TracerRecord

Install = Callable[..., Path]

HEADER = """
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import *
"""


def model(name: str, extra: str = "") -> str:
    return f"""{HEADER}
@hookimpl
def vseam_models():
    yield ModelRecord(name={name!r}, summary="a model", factory="acme_missing:load", source="acme/vlm"{extra})
"""


def editor(factory: str, extra: str = "") -> str:
    return f"""{HEADER}
@hookimpl
def vseam_editors():
    yield EditorRecord(name="acme-paint", summary="an editor", factory={factory!r}{extra})
"""


def test_the_built_in_plugins_are_found_through_entry_points() -> None:
    plugins = build_plugins()
    assert not [plugin for plugin in plugins.broken if plugin.origin.distribution == "vseam"]
    assert "llava-tiny" in plugins.names(ModelRecord)
    assert {"scenes/color", "scenes-skewed/color", "scenes-open/action"} <= set(plugins.names(DatasetRecord))
    assert {"tokenwise", "groups", "regions", "lens", "knockout"} <= set(plugins.names(TracerRecord))
    assert {"resample", "zero", "scale"} <= set(plugins.names(HeadInterventionRecord))


def test_a_third_party_plugin_is_found_with_its_package_and_version(install: Install) -> None:
    install("acme-vlm", version="2.5", acme=model("acme-2b"))
    registration = build_plugins().find(ModelRecord, "acme-2b")
    assert (registration.origin.plugin, str(registration.origin)) == ("acme", "acme-vlm 2.5")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import acme_does_not_exist", "ModuleNotFoundError: No module named 'acme_does_not_exist'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('line one\\nline two')", "RuntimeError: line one line two"),
        ("import sys; sys.exit('leaving')", "SystemExit: leaving"),
        ("PLUGIN_API = 2", "made for plugin API 2, this vseam has 1"),
        ("PLUGIN_API = 'new'", "PLUGIN_API is 'new', expected a number"),
        (f"{HEADER}\n@hookimpl\ndef vseam_modls():\n    return []", "no hook is called 'vseam_modls'; did you mean 'vseam_models'"),
        (f"{HEADER}\n@hookimpl\ndef vseam_models(config):\n    return []", "config"),
        (f"{HEADER}\n@hookimpl\ndef vseam_models():\n    yield 'llava'", "vseam_models yields a str, expected ModelRecord"),
        (f"{HEADER}\n@hookimpl\ndef vseam_models():\n    raise KeyError('x')", "KeyError: x"),
        (
            f"{HEADER}\n@hookimpl\ndef vseam_tracers():\n    yield TracerRecord(name='a b', summary='s', factory='m:a')",
            "record name 'a b'",
        ),
        (
            f"{HEADER}\n@hookimpl\ndef vseam_tracers():\n    yield TracerRecord(name='a', summary='s', factory='not a path')",
            "factory 'not a path'",
        ),
    ],
)
def test_a_broken_plugin_is_kept_with_its_reason_and_the_others_work(install: Install, source: str, reason: str) -> None:
    install("acme-vlm", acme=source)
    plugins = build_plugins()
    assert plugins.find(ModelRecord, "llava-tiny").origin.distribution == "vseam"
    (broken,) = plugins.broken
    assert str(broken).startswith("broken acme from acme-vlm: ")
    assert reason in broken.reason
    assert "\n" not in str(broken)


def test_a_plugin_that_states_the_current_interface_works(install: Install) -> None:
    install("acme-vlm", acme=f"PLUGIN_API = '1.4'\n{model('acme-2b')}")
    assert build_plugins().broken == ()


def test_an_unknown_name_mentions_broken_plugins_that_might_have_supplied_it(install: Install) -> None:
    install("acme-vlm", acme="import acme_does_not_exist")
    with pytest.raises(UnknownNameError, match="broken acme from acme-vlm: ModuleNotFoundError"):
        build_plugins().find(ModelRecord, "acme-2b")


def test_a_clash_names_both_packages_and_only_when_the_name_is_asked_for(install: Install) -> None:
    install("acme-vlm", acme=model("shared-model"))
    install("zebra-vlm", zebra=model("shared-model"))
    plugins = build_plugins()
    assert plugins.find(ModelRecord, "llava-tiny")
    (clash,) = plugins.clashes()
    assert (clash.name, [origin.distribution for origin in clash.origins]) == ("shared-model", ["acme-vlm", "zebra-vlm"])
    with pytest.raises(NameClashError, match=r"acme-vlm \(plugin acme\) and zebra-vlm \(plugin zebra\).*--no-plugin zebra"):
        plugins.find(ModelRecord, "shared-model")


def test_a_clash_with_a_built_in_name_is_resolved_by_leaving_a_plugin_out(install: Install) -> None:
    install("acme-vlm", acme=model("llava-tiny"))
    with pytest.raises(NameClashError, match=r"vseam .*acme-vlm"):
        build_plugins().find(ModelRecord, "llava-tiny")
    assert build_plugins(exclude=["acme"]).find(ModelRecord, "llava-tiny").origin.distribution == "vseam"
    assert build_plugins(exclude=["models"]).find(ModelRecord, "llava-tiny").origin.distribution == "acme-vlm"


def test_one_name_in_two_kinds_is_no_clash(install: Install) -> None:
    install("acme-vlm", acme=model("scenes"))
    assert build_plugins().clashes() == ()


def test_only_the_selected_plugins_are_imported(install: Install) -> None:
    install("acme-vlm", acme=model("acme-2b"), other="raise RuntimeError('must not be imported')")
    plugins = build_plugins(select=["acme"])
    assert [plugin.origin.plugin for plugin in plugins.loaded] == ["acme"]
    assert plugins.broken == ()


def test_a_distribution_selects_all_its_plugins(install: Install) -> None:
    install("acme-vlm", first=model("acme-1b"), second=model("acme-2b"))
    assert build_plugins(select=["acme-vlm"]).names(ModelRecord) == ("acme-1b", "acme-2b")


@pytest.mark.parametrize("selection", [{"select": ["llava"]}, {"exclude": ["tracer"]}])
def test_selecting_an_unknown_plugin_names_the_known_ones(selection: dict[str, list[str]]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown plugin .* Known: .*heads, .*tracers"):
        build_plugins(**selection)


def test_a_plugin_that_is_not_installed_can_be_passed_in() -> None:
    @hookimpl
    def vseam_datasets() -> list[DatasetRecord]:
        return [DatasetRecord(name="mine", summary="a dataset", factory=dict)]

    plugin = types.ModuleType("notebook")
    plugin.__dict__["vseam_datasets"] = vseam_datasets
    assert build_plugins(local={"notebook": plugin}).find(DatasetRecord, "mine").origin.distribution == "local"


def test_a_factory_that_cannot_be_imported_names_the_package(install: Install) -> None:
    install("acme-edit", acme=editor("acme_missing_module:Painter"))
    with pytest.raises(PluginError, match="editor 'acme-paint' of acme-edit cannot be imported: ModuleNotFoundError"):
        build_plugins().editor("acme-paint")


def test_a_factory_that_makes_something_else_is_refused(install: Install) -> None:
    install("acme-edit", acme=editor("collections:OrderedDict"))
    with pytest.raises(PluginError, match="made a OrderedDict, expected a Editor"):
        build_plugins().editor("acme-paint")


def test_an_option_that_the_factory_does_not_take_gets_the_closest_one(install: Install) -> None:
    site = install("acme-edit", acme=editor("acme_painters:paint", ', options={"strength": 1}'))
    (site / "acme_painters.py").write_text("def paint(*, strength=0, colour='red'): return 3\n")
    with pytest.raises(PluginError, match="has no option 'color'; did you mean 'colour'"):
        build_plugins().editor("acme-paint", color="blue")


def test_a_missing_extra_says_what_to_install_before_anything_is_imported(install: Install) -> None:
    requires = ['acme-diffusion>=2; extra == "paint"', "click>=1", 'click>=1; extra == "paint"', 'click>=900; extra == "other"']
    site = install("acme-edit", requires=requires, acme=editor("acme_painters:paint", ', extra="paint"'))
    (site / "acme_painters.py").write_text("raise RuntimeError('imported too early')\n")
    with pytest.raises(PluginError, match=r"needs acme-diffusion>=2: pip install 'acme-edit\[paint\]'$"):
        build_plugins().editor("acme-paint")


def test_a_package_of_an_extra_that_is_too_old_is_missing_too(install: Install) -> None:
    install("acme-edit", requires=['click>=900; extra == "paint"'], acme=editor("acme_x:p", ', extra="paint"'))
    with pytest.raises(PluginError, match="needs click>=900"):
        build_plugins().find(EditorRecord, "acme-paint").check_extra()


def test_interrupting_the_import_of_a_plugin_is_not_swallowed(install: Install) -> None:
    install("acme-vlm", acme="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        build_plugins()


def test_an_option_by_its_old_name_still_works_with_a_warning(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    site = install("acme-edit", acme=editor("acme_painters:paint", ', renamed_options={"colour": "color"}'))
    (site / "acme_painters.py").write_text("def paint(*, color='red'): return {'red': 1}[color]\n")
    record = build_plugins().find(EditorRecord, "acme-paint")
    assert record.create(int, colour="red") == 1
    assert "option 'colour' is called 'color' now; the old name is deprecated" in caplog.text
    caplog.clear()
    assert record.create(int, color="red") == 1
    assert caplog.text == ""
    with pytest.raises(PluginError, match="option 'colour' is called 'color' now; give one of them"):
        record.create(int, color="red", colour="red")


def test_whoever_uses_something_experimental_is_warned(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    site = install("acme-edit", acme=editor("acme_painters:paint", ", experimental=True"))
    (site / "acme_painters.py").write_text("def paint(): return 1\n")
    assert build_plugins().find(EditorRecord, "acme-paint").create(int) == 1
    assert "editor 'acme-paint' of acme-edit is experimental: its results may change with any release" in caplog.text


def test_the_old_name_of_a_built_in_option_and_the_experimental_planner_are_marked() -> None:
    plugins = build_plugins()
    assert plugins.find(EditorRecord, "precomputed").record.renamed_options == {"pictures": "images"}
    assert plugins.find(EditPlannerRecord, "local-llm").record.experimental
