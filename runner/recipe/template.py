"""The block ``template``: how a row becomes text, and what of it is learned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.blocks import Block, Count, String, Text


class Template(Block):
    """How an example becomes text, and which of its tokens are supervised."""

    chat: Annotated[String, Field(pattern=r"^(tokenizer|chatml|none|.+\.jinja)$")] = Field(
        default="tokenizer",
        description="Chat template: tokenizer (the base model's own), chatml (built in), "
        "none (texts one after the other, ended by the end-of-sequence token), or the path of a "
        ".jinja file relative to this recipe.",
        examples=["tokenizer", "chatml", "templates/chat.jinja"],
    )
    system: Text | None = Field(
        default=None,
        description="System message in Jinja, over the row's columns; null for none.",
        examples=["You write short Python functions.", None],
    )
    thinking: Annotated[bool, Field(strict=True)] | None = Field(
        default=None,
        description="Whether a reasoning model is asked to think: given to the chat template as "
        "enable_thinking. null: as the chat template does by itself, or false where only that "
        "can be trained on.",
        examples=[False, None],
    )
    user: Text | None = Field(
        default=None,
        description="User message in Jinja (format alpaca). "
        "null: the instruction, then a blank line and the input where there is one.",
        examples=["{{ instruction }}\n\nInput: {{ input }}", None],
    )
    assistant: Text | None = Field(
        default=None,
        description="Assistant message in Jinja (format alpaca). null: the output.",
        examples=["{{ output }}", None],
    )
    loss_on: Literal["completion", "assistant_turns", "all"] = Field(
        default="completion",
        description="Which tokens are supervised. completion: the last assistant message. "
        "assistant_turns: every assistant message but those with `train: false`. "
        "all: the whole text.",
        examples=["assistant_turns"],
    )
    max_length: Count = Field(
        default=2048,
        description="Longest example, in tokens.",
        examples=[1024],
    )
    too_long: Literal["drop", "truncate", "error"] = Field(
        default="drop",
        description="What happens to a longer example. drop: left out, counted and listed. "
        "truncate: cut after the last whole answer that fits, counted and listed; dropped where "
        "none fits (loss_on: assistant_turns only: elsewhere there is one answer, and nothing to "
        "cut). error: the run stops.",
        examples=["error"],
    )
