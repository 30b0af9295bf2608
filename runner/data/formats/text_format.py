"""The format text: one column whose texts are trained on as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runner.data.formats.conversation import Conversation
from runner.data.reading.row_column import Column
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Columns, Template


@dataclass(frozen=True)
class TextFormat:
    """A text is one assistant's message without a question; ``chat_templates/none`` renders it."""

    names: Columns
    template: Template

    def __post_init__(self) -> None:
        """Refuse templates of turns, and a loss on answers: there are none.

        Raises:
            DataError: one is set.
        """
        if self.template.loss_on != "all":
            raise DataError(
                f"template.loss_on is {self.template.loss_on}, but the format is text, which has "
                "no answers. Write `loss_on: all`, or the format that is meant."
            )
        for key in ("system", "user", "assistant"):
            if getattr(self.template, key) is not None:
                raise DataError(
                    f"template.{key} is set, but with `format: text` there are no turns. "
                    "Take the key out."
                )

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The text."""
        return (Column(name=self.names.text),)

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The text as the one message."""
        return Conversation(messages=({"role": "assistant", "content": row[self.names.text]},))

    def question(self, text: str) -> Conversation:
        """Nothing is asked in plain text.

        Raises:
            RowError: always.
        """
        raise RowError(f"format text asks nothing, and {text[:60]!r} is a question")

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The text."""
        return {"text": row[self.names.text]}
