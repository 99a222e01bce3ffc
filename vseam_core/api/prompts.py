"""What a model reads for one image and question, position by position: ids, classes, roles and image geometry.

Positions are found from the input ids and the model's own image token id, never from a constant: BOS and template words come
before the image in LLaVA, BOS comes after it in InstructBLIP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vseam_core.api.types import Box

if TYPE_CHECKING:
    from torch import Tensor

PositionClass = Literal["image", "structural_before", "structural_after", "question", "template", "last"]
POSITION_CLASSES: tuple[PositionClass, ...] = (
    "structural_before",
    "image",
    "structural_after",
    "question",
    "template",
    "last",
)


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One image and question as a model reads them.

    `inputs` are the keyword arguments of the model's forward, each with a batch dimension of 1. `ids`, `tokens`, `classes` and
    `roles` have one entry per position of the decoder's sequence, image positions included; a role is "" outside the words that
    the sample names. `image_boxes` gives, for each image position in order, the part of the image it looks at as fractions
    `(x0, y0, x1, y1)`, or is None where positions have no place in the image (behind a Q-Former; `notes["no_regions"]` says
    why). A position without a place among others (the end of a row) has an empty box at the origin. `key` is a hash of the
    inputs: equal keys mean equal forward passes.
    """

    inputs: Mapping[str, Tensor]
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    classes: tuple[PositionClass, ...]
    roles: tuple[str, ...]
    text: str
    key: str
    image_boxes: tuple[Box, ...] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def last(self) -> int:
        """The position whose logits give the first answer token; the last word's, where positions of the image stand behind it."""
        end = len(self.ids) - 1
        return end if self.classes[end] == "last" or "last" not in self.classes else self.classes.index("last")

    def positions(self, *classes: PositionClass) -> tuple[int, ...]:
        """All positions of the named classes, ascending."""
        return tuple(index for index, name in enumerate(self.classes) if name in classes)

    @property
    def text_positions(self) -> tuple[int, ...]:
        """Every position that is not an image position."""
        return tuple(index for index, name in enumerate(self.classes) if name != "image")

    def image_positions_in(self, boxes: Iterable[Box], size: tuple[int, int]) -> tuple[int, ...]:
        """Image positions whose patch overlaps one of `boxes` (pixels of an image of `size` = (width, height)).

        Raises `UnsupportedError` where the family's image positions have no place in the image.
        """
        from vseam_core.errors import UnsupportedError

        if self.image_boxes is None:
            reason = self.notes.get("no_regions", "this family has none")
            raise UnsupportedError(f"regions need image positions with a place in the image: {reason}")
        width, height = size
        scaled = [(x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in boxes]
        chosen = []
        for position, (x0, y0, x1, y1) in zip(self.positions("image"), self.image_boxes, strict=True):
            if any(x0 < bx1 and bx0 < x1 and y0 < by1 and by0 < y1 for bx0, by0, bx1, by1 in scaled):
                chosen.append(position)
        return tuple(chosen)


def comparable(clean: EncodedPrompt, corrupt: EncodedPrompt) -> bool:
    """Whether two prompts can be patched into one another: identical ids, hence identical image grids and positions."""
    return clean.ids == corrupt.ids


def same_template(first: EncodedPrompt, second: EncodedPrompt) -> bool:
    """Whether a resampling donor fits: same length and the same class and role at every position."""
    return first.classes == second.classes and first.roles == second.roles


def role_of_positions(prompt: EncodedPrompt, positions: Sequence[int]) -> tuple[str, ...]:
    """What averages over samples go by: the role where a token has one, else its class."""
    return tuple(prompt.roles[index] or prompt.classes[index] for index in positions)
