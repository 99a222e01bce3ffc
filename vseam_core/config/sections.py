"""What every section of a study file is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vseam_core.config.numbers import LARGEST_WHOLE_NUMBER

Count = Annotated[int, Field(ge=0, le=LARGEST_WHOLE_NUMBER)]
Positive = Annotated[int, Field(ge=1, le=LARGEST_WHOLE_NUMBER)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of a study file: unknown fields, other types and numbers without an end are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def named(value: Any) -> Any:
    """A bare name stands for a method without options."""
    return {"name": value} if isinstance(value, str) else value
