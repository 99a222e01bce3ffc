"""Prompts of models that read a page (UDOP): the question, then the page's words with their boxes, then the image's patches.

The words are those that the processor's own OCR finds. Without OCR a question is asked about the image alone.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection, Sequence
from typing import Any

import torch
from PIL import Image

from vseam_core.api.prompts import PositionClass
from vseam_core.errors import UnsupportedError
from vseam_plugins.models.continued import OF_IMAGE
from vseam_plugins.models.load_options import LoadRequest

_OCR = "apply_ocr"
_PACKAGE, _PROGRAM = "pytesseract", "tesseract"


class PlainTokenizer:
    """A tokenizer of words with boxes, called for texts that have none: questions and answers."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def __call__(self, text: Any, **options: Any) -> Any:
        return self._tokenizer(text_target=text, **options)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def reads_pages(processor: Any) -> bool:
    """Whether a processor's tokenizer wants a box for each word."""
    return hasattr(processor.tokenizer, "call_boxes")


def choose_ocr(request: LoadRequest, processor: Any) -> None:
    """Switch a page's OCR as the user wants it. Raises `UnsupportedError` for `ocr` where there is none, and where OCR cannot run."""
    images = processor.image_processor
    if not hasattr(images, _OCR) or not reads_pages(processor):
        if request.ocr is not None:
            raise UnsupportedError(f"model {request.name!r}: its processor reads no words off an image; leave ocr out")
        return
    if request.ocr is not None:
        setattr(images, _OCR, request.ocr)
    if getattr(images, _OCR) and _missing():
        raise UnsupportedError(
            f"model {request.name!r}: its processor reads the words of an image by OCR, for which the program {_PROGRAM} and "
            f"`pip install {_PACKAGE}` are needed; --model-option ocr=false asks about images without their words"
        )


def _missing() -> bool:
    return importlib.util.find_spec(_PACKAGE) is None or shutil.which(_PROGRAM) is None


def page_inputs(processor: Any, image: Image.Image, text: str) -> dict[str, torch.Tensor]:
    """The inputs of a question about a page. Raises whatever the processor raises."""
    none: dict[str, Any] = {} if getattr(processor.image_processor, _OCR, False) else {"text_pair": [[]], "boxes": [[]]}
    made = processor(images=[image], text=[text], return_tensors="pt", **none)
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


def with_page(
    config: Any, ids: Sequence[int], origins: Sequence[int | None], classes: Sequence[PositionClass], special_ids: Collection[int]
) -> tuple[tuple[int, ...], list[int | None], tuple[PositionClass, ...]]:
    """Ids, origins and classes of all positions: words of the page are the image's, and the model itself puts its patches behind them."""
    patches = int((config.image_size // config.patch_size) ** 2)
    places = zip(ids, origins, classes, strict=True)
    of_page = [kind != "last" and origin is None and number not in special_ids for number, origin, kind in places]
    found: tuple[PositionClass, ...] = tuple("image" if page else kind for page, kind in zip(of_page, classes, strict=True))
    behind: list[PositionClass] = ["image"] * patches
    return (*ids, *[OF_IMAGE] * patches), [*origins, *[None] * patches], (*found, *behind)
