"""Opens a checkpoint's processor with the Pillow image processor, and without a video processor where torchvision is not installed.

An installed torchvision would change the pixels, so its image processors are never used. Several families hand over a processor for
videos too, which the library builds with torchvision only; images do not need it.
"""

from __future__ import annotations

import importlib.util
from typing import Any

_VIDEO = "video_processor"


def read_processor(config: Any, arguments: dict[str, Any]) -> Any:
    """The processor for images and text; `arguments` are those of `from_pretrained`. Raises whatever the library raises."""
    from transformers import AutoImageProcessor, AutoProcessor

    found = _processor_class(config, arguments)
    if found is not None and _VIDEO in found.get_attributes() and importlib.util.find_spec("torchvision") is None:
        processor = without_videos(found).from_pretrained(**arguments)
    else:
        processor = AutoProcessor.from_pretrained(**arguments)
    if getattr(processor, "image_processor", None) is not None:
        processor.image_processor = AutoImageProcessor.from_pretrained(backend="pil", **arguments)
    return processor


class _WithoutVideos(type):
    """Makes processors whose constructors expect a video processor, by place or by name, and may read its settings.

    While one is constructed the image processor stands in for it; afterwards there is none.
    """

    def __call__(cls, *given: Any, **named: Any) -> Any:
        kind: Any = cls
        made = kind.__new__(cls)
        check = made.check_argument_for_proper_class
        made.get_attributes = lambda: cls.names
        made.check_argument_for_proper_class = lambda name, value: None if name == _VIDEO else check(name, value)
        made.__init__(*given, **named)
        del made.get_attributes, made.check_argument_for_proper_class
        made.__dict__.pop(_VIDEO, None)
        return made

    names: list[str]


def without_videos(processor_class: type[Any]) -> type[Any]:
    """The same processor, loaded and saved without its video processor."""
    from transformers import ProcessorMixin

    names = processor_class.get_attributes()
    kept = [name for name in names if name != _VIDEO]

    library: Any = processor_class._get_arguments_from_pretrained

    def get_attributes(cls: type[Any]) -> list[str]:
        return kept

    def get_arguments(cls: type[Any], *given: Any, **named: Any) -> list[Any]:
        found: list[Any] = library.__func__(cls, *given, **named)
        found.insert(names.index(_VIDEO), found[kept.index("image_processor")])
        return found

    members = {
        # A family's own asks its video processor for numbers of frames, whatever the chat holds.
        "apply_chat_template": ProcessorMixin.apply_chat_template,
        "get_attributes": classmethod(get_attributes),
        "_get_arguments_from_pretrained": classmethod(get_arguments),
        "__module__": processor_class.__module__,
        "names": names,
    }
    return _WithoutVideos(processor_class.__name__, (processor_class,), members)


def _processor_class(config: Any, arguments: dict[str, Any]) -> Any:
    """The library's processor class for an architecture, or for what the checkpoint's own files name; None where there is none."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    found = PROCESSOR_MAPPING.get(type(config), None)
    if found is None:
        from transformers import ProcessorMixin

        source = {key: value for key, value in arguments.items() if key != "pretrained_model_name_or_path"}
        try:
            settings, _ = ProcessorMixin.get_processor_dict(arguments["pretrained_model_name_or_path"], **source)
        except (OSError, ValueError):
            return None  # the library says what is missing
        found = getattr(transformers, str(settings.get("processor_class")), None)
    return found if hasattr(found, "get_attributes") else None
