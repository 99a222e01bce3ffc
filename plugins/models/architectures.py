"""The class of the library that a checkpoint is loaded into: its type's, or another one that config.json names and that answers too."""

from __future__ import annotations

from typing import Any


def is_built_as(config: Any) -> str:
    """The class that a checkpoint's configuration names; "" where it names none."""
    return next(iter(getattr(config, "architectures", None) or ()), "")


def answering_class(config: Any) -> Any:
    """What has `from_pretrained` for a checkpoint: the library's automatic class, or the one for BLIP's questions."""
    if config.model_type == "blip" and is_built_as(config) == "BlipForQuestionAnswering":
        from vseam_plugins.models.blip_questions import BlipForQuestionAnswering

        return BlipForQuestionAnswering
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText


def build(config: Any, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """A module of that class with the weights that the library draws; `options` are those of its `from_config`."""
    chosen = answering_class(config)
    if not hasattr(chosen, "from_config"):
        return chosen._from_config(config, **options)
    return chosen.from_config(config, **({"trust_remote_code": True} if trust_remote_code else {}), **options)
