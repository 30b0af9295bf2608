"""What every block of a recipe is made of: a closed, frozen base, and kinds of values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

HeldOut = Literal["validation", "test"]
PartitionName = Literal["train", "validation", "test"]
# What happens to a row that breaks a rule. error: the run stops. drop: the row is left out.
# warn: it is kept. All are counted and listed.
Policy = Literal["error", "drop", "warn"]
# Where a row that breaks the rule cannot be used at all.
StrictPolicy = Literal["error", "drop"]


def _integral(value: object) -> object:
    """4.0 is the integer 4, as JSON Schema has it; everything else is left to the strict check."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# `1e3` steps are 1000 steps, but "4" or true is no number.
INTEGRAL = BeforeValidator(_integral)
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
String = Annotated[str, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
# 1 billion: above any count that makes sense, below what overflows a 32-bit integer.
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000), INTEGRAL]
Fraction = Annotated[Number, Field(ge=0, le=1)]


class Block(BaseModel):
    """A block of a recipe: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
