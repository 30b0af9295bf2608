"""The blocks ``gates`` and ``release``: what must hold before an adapter may be shipped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.blocks import Block, Number, Text

Claim = Literal["superior", "non_inferior", "floor", "ceiling"]


class GateBlock(Block):
    """A claim about a figure that must hold before the adapter may be released."""

    metric: Text = Field(
        description="The figure, as <partition>.<figure> or <generation task>.<figure>; with "
        ".clean before the figure, on the rows alone that are in no other partition.",
        examples=["test.loss", "test-completions.rougeL", "test.clean.loss"],
    )
    claim: Claim = Field(
        description="superior: better than the base model (by margin). non_inferior: worse than "
        "the base model by less than margin. floor: above at. ceiling: below at.",
        examples=["superior"],
    )
    margin: Annotated[Number, Field(ge=0)] | None = Field(
        default=None,
        description="How much better (superior, optional) or worse at most (non_inferior, "
        "required), in the figure's own unit.",
        examples=[0.02, None],
    )
    at: Number | None = Field(
        default=None,
        description="The number that a floor or a ceiling is set at (required there).",
        examples=[1.2, None],
    )
    confidence: Annotated[Number, Field(ge=0.5, lt=1)] = Field(
        default=0.95,
        description="One-sided confidence with which the claim must hold.",
        examples=[0.99],
    )
    against: Literal["base", "release"] = Field(
        default="base",
        description="What superior and non_inferior compare with. base: the base model. release: "
        "the adapter of this recipe that was released last (or release.previous).",
        examples=["release"],
    )
    first_release: Literal["inconclusive", "allow"] = Field(
        default="inconclusive",
        description="What holds of a gate against the last release while there is none. allow: it "
        "passes, so that a first adapter can be released by the other gates.",
        examples=["allow"],
    )


class Release(Block):
    """What ``proofbox release`` packs."""

    contents: Literal["adapter"] = Field(
        default="adapter",
        description="The adapter alone, to be used on its base model.",
        examples=["adapter"],
    )
    previous: Text | None = Field(
        default=None,
        description="Folder of the release that gates with against: release compare with, relative "
        "to this recipe. null: the last one of this recipe among its runs.",
        examples=["../releases/2026-03", None],
    )
