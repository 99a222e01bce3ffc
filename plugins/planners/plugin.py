"""Registers the built-in edit planners."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import EditPlannerRecord

PLUGIN_API = 1


@hookimpl
def vseam_edit_planners() -> Iterator[EditPlannerRecord]:
    """Plans by rules and curated siblings, and by a language model."""
    yield EditPlannerRecord(
        name="lexicon",
        summary="rules for question shapes, with curated siblings of objects, colours, materials and relations",
        factory="vseam_plugins.planners.lexicon.planner:LexiconPlanner",
    )
    yield EditPlannerRecord(
        name="llm",
        summary="asks a language model behind any OpenAI-compatible endpoint; options model, base_url",
        factory="vseam_plugins.planners.language_model:LanguageModelPlanner",
        extra="llm",
    )
    yield EditPlannerRecord(
        name="local-llm",
        summary="asks a language model on this machine, held to the schema by outlines; option source names the checkpoint",
        factory="vseam_plugins.planners.language_model:LocalLanguageModelPlanner",
        extra="local-llm",
        experimental=True,  # its plans depend on a small model, and no published file has measured them
    )
