"""Dataset formats: how a row becomes a conversation. One of the project's plug-in points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from runner.data.row_template import RowError, RowTemplate
from runner.data.sources import Column, text_fault, type_name
from runner.errors import DataError
from runner.recipe import Columns, Template
from runner.recipe_reading.nearest_name import did_you_mean

Message = dict[str, str]
Conversation = list[Message]

# format as a recipe names it -> "module:attribute" of a RowFormat, called with (columns, template).
# Third parties add to it with the entry-point group "proofbox.formats".
FORMATS: dict[str, str] = {
    "alpaca": "runner.data.formats:AlpacaFormat",
    "messages": "runner.data.formats:MessagesFormat",
}

ROLES = ("system", "user", "assistant")
# Keys of a message that change what is trained on; none may be dropped in silence.
UNREAD = ("tool_calls", "tool_call_id", "reasoning_content", "thinking", "train", "weight")


class RowFormat(Protocol):
    """What a dataset format must have."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are read."""

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The messages of a row, ending with the assistant's; raises RowError."""

    def question(self, text: str) -> Conversation:
        """The messages that ask the model ``text``, without an answer."""

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What makes two rows the same: the values by the part they play, whatever its column."""


def row_format(name: str, columns: Columns, template: Template) -> RowFormat:
    """The format of this name for a recipe's columns and row templates.

    Raises:
        DataError: an unknown format, or a row template that is broken.
    """
    plugins = {point.name: point.value for point in entry_points(group="proofbox.formats")}
    known = {**plugins, **FORMATS}
    if name not in known:
        raise DataError(
            f"dataset.format: {name!r} is not one of {', '.join(sorted(known))}. "
            + did_you_mean(name, known)
        )
    module, attribute = known[name].split(":")
    made: RowFormat = getattr(import_module(module), attribute)(columns, template)
    return made


@dataclass(frozen=True)
class AlpacaFormat:
    """Columns instruction, input and output; row templates make the turns.

    The templates see ``instruction``, ``input`` and ``output`` by the part they play, and every
    other column by its own name. Only columns that a template names are read.
    """

    names: Columns
    template: Template

    def __post_init__(self) -> None:
        """Refuse templates that drop the answer or give it away.

        Raises:
            DataError: a broken template, or one of these.
        """
        if "output" not in self._assistant.names:
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
    def _user(self) -> RowTemplate:
        default = "{{ instruction }}" + (
            "{% if input %}\n\n{{ input }}{% endif %}" if self.names.input else ""
        )
        written = self.template.user
        return RowTemplate("template.user", default if written is None else written)

    @cached_property
    def _assistant(self) -> RowTemplate:
        written = self.template.assistant
        return RowTemplate("template.assistant", "{{ output }}" if written is None else written)

    @cached_property
    def _system(self) -> RowTemplate | None:
        written = self.template.system
        return None if written is None else RowTemplate("template.system", written)

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
        return {name: named.get(name, name) for name in sorted(used)}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the templates name, and the tests."""
        read = dict.fromkeys(self._parts.values())
        if self.names.tests is not None:
            read[self.names.tests] = None
        return tuple(Column(name=name, fault=text_fault) for name in read)

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The turns that the row templates render."""
        values = {name: row[column] for name, column in self._parts.items()}
        return [
            *self._ask(values),
            {"role": "assistant", "content": self._assistant.render(values)},
        ]

    def question(self, text: str) -> Conversation:
        """The turns before the answer, with ``text`` as the instruction and nothing else."""
        return self._ask({**dict.fromkeys(self._parts, ""), "instruction": text})

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values that the templates use, by their names there."""
        return {name: row[column] for name, column in self._parts.items()}

    def _ask(self, values: Mapping[str, str]) -> Conversation:
        user = {"role": "user", "content": self._user.render(values)}
        if self._system is None:
            return [user]
        return [{"role": "system", "content": self._system.render(values)}, user]

    def _check_answer_is_rendered(self) -> None:
        """A template may name the answer and yet not show it, as in ``{% if false %}``."""
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


@dataclass(frozen=True)
class MessagesFormat:
    """One column with a list of ``{role, content}`` messages, as OpenAI's API has it.

    ``template.system`` is put before conversations that have no system message of their own.
    """

    names: Columns
    template: Template

    def __post_init__(self) -> None:
        """Refuse row templates that this format has no use for.

        Raises:
            DataError: ``template.user`` or ``template.assistant`` is set.
        """
        for key in ("user", "assistant"):
            if getattr(self.template, key) is not None:
                raise DataError(
                    f"template.{key} is set, but with `format: messages` the rows hold the turns "
                    "themselves. Take the key out."
                )

    @cached_property
    def _system(self) -> RowTemplate | None:
        written = self.template.system
        return None if written is None else RowTemplate("template.system", written)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The messages, the columns that the system template names, and the tests."""
        named = sorted(self._system.names) if self._system else []
        texts = dict.fromkeys([*named, *([self.names.tests] if self.names.tests else [])])
        return (
            Column(name=self.names.messages, fault=messages_fault, messages=True),
            *(Column(name=name, fault=text_fault) for name in texts),
        )

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """The row's messages, with the recipe's system message where there is none."""
        messages = [{"role": m["role"], "content": m["content"]} for m in row[self.names.messages]]
        if self._system is None or messages[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": self._system.render(row)}, *messages]

    def question(self, text: str) -> Conversation:
        """``text`` as the user's message, after the recipe's system message."""
        user = {"role": "user", "content": text}
        if self._system is None:
            return [user]
        values = dict.fromkeys(self._system.names, "")
        return [{"role": "system", "content": self._system.render(values)}, user]

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The messages."""
        return {"messages": row[self.names.messages]}


def messages_fault(value: object) -> str | None:
    """What keeps ``value`` from being a conversation that ends with an answer, or None."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return f"holds {type_name(value)}, not a list of messages"
    if not value:
        return "holds an empty list of messages"
    fault = next((found for message in value if (found := _message_fault(message))), None)
    if fault is None and value[-1]["role"] != "assistant":
        return f"ends with a message of role {value[-1]['role']!r}, not 'assistant'"
    if fault is None and any(message["role"] == "system" for message in value[1:]):
        return "has a system message that is not the first"
    if fault is None and "user" not in [message["role"] for message in value[:2]]:
        return "has no user's message before the first answer"
    return fault


def _message_fault(message: object) -> str | None:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        return "has a message that is not an object with `role` and `content`"
    if message["role"] not in ROLES:
        return f"has a message of role {message['role']!r}; known are {', '.join(ROLES)}"
    unread = [key for key in UNREAD if message.get(key) is not None]
    if unread:
        return f"has a message with {unread[0]!r}, which this version does not read"
    fault = text_fault(message["content"])
    return f"has a message whose content {fault}" if fault else None
