"""The recipe's system message, put before conversations that have none of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.data.formats.conversation import Message
from runner.data.reading.row_column import Column
from runner.data.reading.row_template import RowTemplate
from runner.errors import DataError
from runner.recipe import Template


class SystemMessage:
    """``template.system`` over a row's columns, or none."""

    def __init__(self, template: Template, *, turns: Sequence[str]) -> None:
        """``turns`` are the columns that hold the conversation, with its answers.

        Raises:
            DataError: the template is broken, or names one of them.
        """
        written = template.system
        self._template = None if written is None else RowTemplate("template.system", written)
        self.names = sorted(self._template.names) if self._template else []
        shown = next((name for name in self.names if name in turns), None)
        if shown is not None:
            raise DataError(
                f"template.system names `{shown}`: it would show the model the answer that it is "
                "to give"
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that it names."""
        return tuple(Column(name=name) for name in self.names)

    def before(
        self, messages: Sequence[Message], row: Mapping[str, Any] | None = None
    ) -> tuple[Message, ...]:
        """``messages`` with a system message; columns are empty where there is no ``row``.

        Raises:
            RowError: the template raised.
        """
        if self._template is None or (messages and messages[0]["role"] == "system"):
            return tuple(messages)
        values = dict.fromkeys(self.names, "") if row is None else row
        return ({"role": "system", "content": self._template.render(values)}, *messages)


def refuse_turn_templates(template: Template, name: str) -> None:
    """Refuse row templates where the rows hold the turns themselves.

    Raises:
        DataError: ``template.user`` or ``template.assistant`` is set.
    """
    for key in ("user", "assistant"):
        if getattr(template, key) is not None:
            raise DataError(
                f"template.{key} is set, but with `format: {name}` the rows hold the turns "
                "themselves. Take the key out."
            )
