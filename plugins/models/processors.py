"""Opens a checkpoint's processor with the Pillow image processor, and without a video processor where torchvision is not installed.

An installed torchvision would change the pixels, so its image processors are never used. Several families hand over a processor for
videos too, which the library builds with torchvision only; pictures do not need it.
"""

from __future__ import annotations

import importlib.util
from typing import Any

_VIDEO = "video_processor"


def read_processor(config: Any, arguments: dict[str, Any]) -> Any:
    """The processor for images and text; `arguments` are those of `from_pretrained`. Raises whatever the library raises."""
    from transformers import AutoImageProcessor, AutoProcessor

    found = _processor_class(config)
    if found is not None and _VIDEO in found.get_attributes() and importlib.util.find_spec("torchvision") is None:
        processor = without_videos(found).from_pretrained(**arguments)
    else:
        processor = AutoProcessor.from_pretrained(**arguments)
    if getattr(processor, "image_processor", None) is not None:
        processor.image_processor = AutoImageProcessor.from_pretrained(backend="pil", **arguments)
    return processor


def without_videos(processor_class: type[Any]) -> type[Any]:
    """The same processor, loaded and saved without its video processor."""
    from transformers import ProcessorMixin

    names = processor_class.get_attributes()
    kept = [name for name in names if name != _VIDEO]

    library: Any = processor_class._get_arguments_from_pretrained

    def get_attributes(cls: type[Any]) -> list[str]:
        return kept

    def get_arguments(cls: type[Any], *given: Any, **named: Any) -> list[Any]:
        # The constructor still takes the place of the one that is missing.
        found: list[Any] = library.__func__(cls, *given, **named)
        found.insert(names.index(_VIDEO), None)
        return found

    members = {
        # A family's own asks its video processor for numbers of frames, whatever the chat holds.
        "apply_chat_template": ProcessorMixin.apply_chat_template,
        "get_attributes": classmethod(get_attributes),
        "_get_arguments_from_pretrained": classmethod(get_arguments),
        "__module__": processor_class.__module__,
    }
    return type(processor_class.__name__, (processor_class,), members)


def _processor_class(config: Any) -> Any:
    """The library's processor class for an architecture, or None where it has none that can be imported."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    found = PROCESSOR_MAPPING.get(type(config), None)
    return found if hasattr(found, "get_attributes") else None
