"""The format sharegpt: one column with a list of turns {from, value}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.data.formats.conversation import Message
from runner.data.formats.message_list import json_list, parsed, uniform_message
from runner.data.formats.messages_format import MessagesFormat
from runner.data.reading.row_template import RowError

# Who speaks, as the sets on the Hub write it -> role.
ROLE_OF = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function-response": "tool",
    "ipython": "tool",
}
# Turns whose value is the JSON of one call or of several.
CALLS = ("function_call", "function-call", "tool_call")


@dataclass(frozen=True)
class SharegptFormat(MessagesFormat):
    """As format messages, with ``from`` for the role and ``value`` for the content."""

    name = "sharegpt"

    @property
    def _turns(self) -> str:
        return self.names.conversations

    def _message(self, message: object) -> Message:
        if not isinstance(message, Mapping) or not {"from", "value"} <= message.keys():
            raise RowError("has a turn that is not an object with `from` and `value`")
        speaker = message["from"]
        others = {k: v for k, v in message.items() if k not in ("from", "value")}
        if {"role", "content", "tool_calls"} & others.keys():
            raise RowError("has a turn with keys of both formats, sharegpt and messages")
        if speaker in CALLS:
            calls = _calls(message["value"])
            return uniform_message({**others, "role": "assistant", "tool_calls": calls})
        if speaker not in ROLE_OF:
            known = ", ".join([*ROLE_OF, *CALLS])
            raise RowError(f"has a turn from {speaker!r}; known are {known}")
        return uniform_message({**others, "role": ROLE_OF[speaker], "content": message["value"]})


def _calls(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    """The calls in a turn's value: an object, a list, or the JSON text of one."""
    what = "the value of a function call"
    given = parsed(value, what) if isinstance(value, str) else value
    calls = [given] if isinstance(given, dict) else json_list(given, what)
    if not calls:
        raise RowError(f"{what} is empty")
    return calls
