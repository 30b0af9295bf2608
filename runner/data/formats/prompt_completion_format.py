"""The format prompt_completion: a prompt and what completes it, texts or lists of messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runner.data.formats.conversation import Conversation, Message
from runner.data.formats.message_list import check_order, list_or_text_fault, uniform_message
from runner.data.formats.system_message import SystemMessage, refuse_turn_templates
from runner.data.reading.row_column import Column
from runner.data.reading.row_template import RowError
from runner.recipe import Columns, Template


@dataclass(frozen=True)
class PromptCompletionFormat:
    """A text is a user's message (prompt) or an assistant's (completion); lists are joined."""

    names: Columns
    template: Template

    def __post_init__(self) -> None:
        """Refuse row templates that this format has no use for.

        Raises:
            DataError: ``template.user`` or ``template.assistant`` is set, or the system template is
                broken or shows the answer.
        """
        refuse_turn_templates(self.template, "prompt_completion")
        _ = self._system

    @cached_property
    def _system(self) -> SystemMessage:
        return SystemMessage(self.template, turns=(self.names.prompt, self.names.completion))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Prompt, completion, the columns that the system template names, and the tests."""
        read = {
            name: Column(name=name, kind="json", fault=list_or_text_fault)
            for name in (self.names.prompt, self.names.completion)
        }
        for column in self._system.columns:
            read.setdefault(column.name, column)
        if self.names.tests is not None:
            read.setdefault(self.names.tests, Column(name=self.names.tests))
        return tuple(read.values())

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The prompt's messages and the completion's, after the recipe's system message."""
        prompt, completion = self._sides(row)
        if not completion or completion[0]["role"] != "assistant":
            raise RowError("has a completion that does not begin with an assistant's message")
        if prompt and prompt[-1]["role"] == "assistant":
            raise RowError("has a prompt that ends with an assistant's message")
        messages = [*prompt, *completion]
        check_order(messages)
        return Conversation(messages=self._system.before(messages, row))

    def question(self, text: str) -> Conversation:
        """``text`` as the user's message, after the recipe's system message."""
        return Conversation(messages=self._system.before([{"role": "user", "content": text}]))

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Both sides as messages; the row's own values where they are none."""
        try:
            prompt, completion = self._sides(row)
        except RowError:
            return {
                "prompt": row[self.names.prompt],
                "completion": row[self.names.completion],
            }
        return {"prompt": prompt, "completion": completion}

    def _sides(self, row: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
        return (
            _messages(row[self.names.prompt], "user"),
            _messages(row[self.names.completion], "assistant"),
        )


def _messages(value: Any, role: str) -> list[Message]:  # noqa: ANN401 - a text or a list
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [uniform_message(message) for message in value]
