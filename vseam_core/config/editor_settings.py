"""Which editor a study or command uses, with its planner, mask provider and options: `editor: recolor`, or a section of its own.

editor: {name: recolor, planner: lexicon, mask: box, options: {strength: 0.8}, dilation: 8}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]
WhichPairs = Literal["all", "passing", "accepted"]


class EditorChoice(BaseModel):
    """An editor by name, and what the core does around it.

    `planner`, `mask` and their options matter to painters only, as do `dilation` (pixels that a mask grows by) and `feather` (pixels over
    which its edge is blended, inside the grown mask). `controls` makes control edits (None: where the painter is cheap). `pairs`
    leaves out pairs that fail their checks (`passing`), or that no person accepted (`accepted`). `clip` is a CLIP checkpoint for
    the check of what is seen.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: Name = "scenes"
    options: dict[str, Any] = {}
    planner: Name = "lexicon"
    planner_options: dict[str, Any] = {}
    mask: Name = "box"
    mask_options: dict[str, Any] = {}
    dilation: Annotated[int, Field(ge=0, le=256)] = 8
    feather: Annotated[int, Field(ge=0, le=256)] = 4
    controls: bool | None = None
    pairs: WhichPairs = "all"
    clip: Name | None = None

    def identity(self) -> str | dict[str, Any]:
        """What changes the edited images: the bare name, or the name with every setting that is not the default."""
        settings = self.model_dump(mode="json", exclude={"pairs", "controls", "clip"}, exclude_defaults=True)
        settings.pop("name", None)
        return {"name": self.name, **settings} if settings else self.name


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


EditorSetting = Annotated[EditorChoice, BeforeValidator(_named)]
"""A field that takes a bare name as well as a section."""


def editor_choice(value: EditorChoice | str) -> EditorChoice:
    """A choice as it is, or the choice that a bare name stands for."""
    return EditorChoice(name=value) if isinstance(value, str) else value
