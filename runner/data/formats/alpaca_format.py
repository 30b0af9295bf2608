"""The format alpaca: columns instruction, input and output; row templates make the turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runner.data.formats.conversation import Conversation, Message
from runner.data.reading.row_column import Column
from runner.data.reading.row_template import RowError, RowTemplate
from runner.errors import DataError
from runner.recipe import Columns, Template


@dataclass(frozen=True)
class AlpacaFormat:
    """Columns instruction, input and output; row templates make the turns.

    The templates see ``instruction``, ``input`` and ``output`` by the part they play, and every
    other column by its own name. Only columns that a template names are read. A row may leave out
    the input, or hold null: it is empty.
    """

    names: Columns
    template: Template

    def __post_init__(self) -> None:
        """Refuse templates that drop the answer or give it away.

        Raises:
            DataError: a broken template, or one of these.
        """
        if self._assistant is not None and "output" not in self._assistant.names:
            raise DataError(
                "template.assistant never renders the answer: it does not name `output`. "
                'Write for example `assistant: "{{ output }}"`.'
            )
        for template in (self._user, self._system):
            if template is not None and "output" in template.names:
                raise DataError(
                    f"{template.key} names `output`: it would show the model the answer that it "
                    "is to give"
                )
        self._check_answer_is_rendered()

    @cached_property
    def _user(self) -> RowTemplate | None:
        return self._written("user")

    @cached_property
    def _assistant(self) -> RowTemplate | None:
        return self._written("assistant")

    @cached_property
    def _system(self) -> RowTemplate | None:
        return self._written("system")

    def _written(self, key: str) -> RowTemplate | None:
        written = getattr(self.template, key)
        return None if written is None else RowTemplate(f"template.{key}", written)

    @cached_property
    def _parts(self) -> dict[str, str]:
        """Name in a template -> column, for every name that the templates use."""
        used = {name for t in (self._user, self._assistant, self._system) if t for name in t.names}
        named = {"instruction": self.names.instruction, "output": self.names.output}
        if self.names.input is not None:
            named["input"] = self.names.input
        elif "input" in used:
            raise DataError(
                "template: a row template names `input`, but dataset.columns.input is null. "
                "Take `input` out of the template, or name its column."
            )
        if self._user is None:
            used |= {"instruction", "input"} & named.keys()
        if self._assistant is None:
            used.add("output")
        return {name: named.get(name, name) for name in sorted(used)}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the templates name, and the tests."""
        read = dict.fromkeys(self._parts.values())
        if self.names.tests is not None:
            read[self.names.tests] = None
        return tuple(Column(name=name, optional=name == self._parts.get("input")) for name in read)

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The turns that the row templates render."""
        values = {name: row[column] for name, column in self._parts.items()}
        written = self._assistant
        answer = values["output"] if written is None else written.render(values)
        return Conversation(messages=(*self._ask(values), {"role": "assistant", "content": answer}))

    def question(self, text: str) -> Conversation:
        """The turns before the answer, with ``text`` as the instruction and nothing else."""
        values = {**dict.fromkeys(self._parts, ""), "instruction": text}
        return Conversation(messages=self._ask(values))

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values that the templates use, by their names there."""
        return {name: row[column] for name, column in self._parts.items()}

    def _ask(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        user = {"role": "user", "content": self._user_text(values)}
        if self._system is None:
            return (user,)
        return ({"role": "system", "content": self._system.render(values)}, user)

    def _user_text(self, values: Mapping[str, str]) -> str:
        """The user's message; without a template, the instruction, a blank line and the input."""
        if self._user is not None:
            return self._user.render(values)
        given = values.get("input")
        return f"{values['instruction']}\n\n{given}" if given else values["instruction"]

    def _check_answer_is_rendered(self) -> None:
        """A template may name the answer and yet not show it, as in ``{% if false %}``."""
        if self._assistant is None:
            return
        first, second = ({**dict.fromkeys(self._parts, "x"), "output": o} for o in ("a1", "b2"))
        try:
            rendered = self._assistant.render(first), self._assistant.render(second)
        except RowError:
            return  # it needs real values; rows are checked one by one
        if rendered[0] == rendered[1]:
            raise DataError(
                "template.assistant never renders the answer: it gives "
                f"{rendered[0][:60]!r} whatever `output` is"
            )
