"""The format messages: one column with a list of messages, as OpenAI's API has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runner.data.formats.conversation import Conversation, Message
from runner.data.formats.message_list import (
    check_order,
    json_list,
    list_fault,
    tool_definitions,
    uniform_message,
)
from runner.data.formats.system_message import SystemMessage, refuse_turn_templates
from runner.data.reading.row_column import Column
from runner.data.reading.row_template import RowError
from runner.recipe import Columns, Template


@dataclass(frozen=True)
class MessagesFormat:
    """A column with a list of ``{role, content}``, or its JSON text, and one with tools.

    ``template.system`` is put before conversations that have no system message of their own.
    """

    names: Columns
    template: Template
    name = "messages"

    def __post_init__(self) -> None:
        """Refuse row templates that this format has no use for.

        Raises:
            DataError: ``template.user`` or ``template.assistant`` is set, or the system template is
                broken or shows the answer.
        """
        refuse_turn_templates(self.template, self.name)
        _ = self._system

    @property
    def _turns(self) -> str:
        """The column with the turns."""
        return self.names.messages

    @cached_property
    def _system(self) -> SystemMessage:
        return SystemMessage(self.template, turns=(self._turns,))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The messages, the tools, the columns that the system template names, and the tests."""
        read = {self._turns: Column(name=self._turns, kind="json", fault=list_fault)}
        tools, tests = self.names.tools, self.names.tests
        if tools is not None:
            read[tools] = Column(name=tools, kind="json", optional=True, fault=list_fault)
        for column in self._system.columns:
            read.setdefault(column.name, column)
        if tests is not None:
            read.setdefault(tests, Column(name=tests))
        return tuple(read.values())

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The row's messages, with the recipe's system message where there is none."""
        messages = self._messages(row)
        check_order(messages)
        return Conversation(messages=self._system.before(messages, row), tools=self._tools(row))

    def question(self, text: str) -> Conversation:
        """``text`` as the user's message, after the recipe's system message."""
        return Conversation(messages=self._system.before([{"role": "user", "content": text}]))

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Messages and tools, however they are written; the row itself where it has no such."""
        try:
            return {"messages": self._messages(row), "tools": self._tools(row)}
        except RowError:
            return {"messages": row[self._turns], "tools": row.get(self.names.tools or "")}

    def _messages(self, row: Mapping[str, Any]) -> list[Message]:
        return [self._message(m) for m in json_list(row[self._turns], f"column {self._turns!r}")]

    def _message(self, message: object) -> Message:
        return uniform_message(message)

    def _tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        return () if self.names.tools is None else tool_definitions(row[self.names.tools])
