"""Every hook that a plugin may implement, with an example of each.

A plugin is a module named in the entry-point group `vseam` of a distribution:

    [project.entry-points.vseam]
    acme = "acme_vseam.plugin"

It may implement any of the hooks below. A hook yields frozen records (`vseam_core.plugins.records`), never objects: the module of a
plugin is imported whenever vseam starts, so it must import nothing heavy; the factories are imported on first use. A module may
state the interface it was written for as `PLUGIN_API = 1`; another major number makes the plugin *broken*, with that reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from vseam_core.plugins.records import (
        CommandRecord,
        DatasetRecord,
        EditorRecord,
        EditPlannerRecord,
        GenerationMethodRecord,
        HeadInterventionRecord,
        MaskProviderRecord,
        ModelRecord,
        TracerRecord,
    )

PROJECT = "vseam"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def vseam_models() -> Iterable[ModelRecord]:
    """Vision-language models, and ways to load them.

    The factory is `load(name, source, *, device, dtype, **options)` and returns a `VisionLanguageModel`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import ModelRecord

        @hookimpl
        def vseam_models():
            yield ModelRecord(
                name="acme-vlm-2b",
                summary="Acme's 2B model",
                factory="acme_vseam.models:load",
                source="acme/vlm-2b-hf",
            )
    """
    return ()


@hookspec
def vseam_datasets() -> Iterable[DatasetRecord]:
    """Benchmarks: questions about images with gold answers. The factory returns a `Benchmark`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import DatasetRecord

        @hookimpl
        def vseam_datasets():
            yield DatasetRecord(
                name="acme/shapes",
                summary="which shape is it?",
                factory="acme_vseam.benchmarks:ShapeBenchmark",
                options={"category": "shape"},
            )
    """
    return ()


@hookspec
def vseam_editors() -> Iterable[EditorRecord]:
    """Editors: they change one concept of an image so that the true answer changes. The factory returns an `Editor`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import EditorRecord

        @hookimpl
        def vseam_editors():
            yield EditorRecord(
                name="acme-inpaint",
                summary="inpainting with Acme's model",
                factory="acme_vseam.editors:Inpainter",
                extra="inpaint",
            )
    """
    return ()


@hookspec
def vseam_mask_providers() -> Iterable[MaskProviderRecord]:
    """Mask providers: they find the pixels that an edit may change. The factory returns a `MaskProvider`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import MaskProviderRecord

        @hookimpl
        def vseam_mask_providers():
            yield MaskProviderRecord(
                name="acme-ellipse",
                summary="the ellipse inside the object's box",
                factory="acme_vseam.masks:EllipseMask",
            )
    """
    return ()


@hookspec
def vseam_edit_planners() -> Iterable[EditPlannerRecord]:
    """Edit planners: they decide which concept of a question to change, and into what. The factory returns an `EditPlanner`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import EditPlannerRecord

        @hookimpl
        def vseam_edit_planners():
            yield EditPlannerRecord(
                name="acme-thesaurus",
                summary="co-hyponyms from Acme's thesaurus",
                factory="acme_vseam.planners:ThesaurusPlanner",
            )
    """
    return ()


@hookspec
def vseam_tracers() -> Iterable[TracerRecord]:
    """Causal tracing methods, declared as runs for the engine to make. The factory returns a `Tracer`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import TracerRecord

        @hookimpl
        def vseam_tracers():
            yield TracerRecord(
                name="acme-windows",
                summary="patches windows of three layers at once",
                factory="acme_vseam.tracers:WindowPatching",
                options={"width": 3},
            )
    """
    return ()


@hookspec
def vseam_head_interventions() -> Iterable[HeadInterventionRecord]:
    """Ways to replace or rescale the outputs of attention heads. The factory returns a `HeadIntervention`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import HeadInterventionRecord

        @hookimpl
        def vseam_head_interventions():
            yield HeadInterventionRecord(
                name="acme-noise",
                summary="adds seeded Gaussian noise to a head",
                factory="acme_vseam.heads:NoiseHeads",
            )
    """
    return ()


@hookspec
def vseam_generation_methods() -> Iterable[GenerationMethodRecord]:
    """Ways to change how answers are generated, without training. The factory returns a `GenerationMethod`.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import GenerationMethodRecord

        @hookimpl
        def vseam_generation_methods():
            yield GenerationMethodRecord(
                name="acme-contrast",
                summary="contrasts the image with a blurred one",
                factory="acme_vseam.generation:BlurContrast",
            )
    """
    return ()


@hookspec
def vseam_commands() -> Iterable[CommandRecord]:
    """Verbs added to the command line. The factory names a `click.Command`; built-in verbs can't be replaced.

    Example::

        from vseam_core.plugins.hookspecs import hookimpl
        from vseam_core.plugins.records import CommandRecord

        @hookimpl
        def vseam_commands():
            yield CommandRecord(
                name="acme",
                summary="download Acme's checkpoints",
                factory="acme_vseam.command:acme",
            )
    """
    return ()
