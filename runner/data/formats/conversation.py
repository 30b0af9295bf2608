"""A conversation: what a row of any format becomes before a chat template renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# OpenAI's keys. ``role`` is always there; ``content`` is a text (an assistant that only calls tools
# may leave it out). Others: ``tool_calls`` [{type, id, function: {name, arguments}}] with arguments
# as an object, ``reasoning_content``, ``name``, ``tool_call_id``, and ``train``: false on an
# assistant's message that is not supervised.
Message = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in order, and the tools that the model is told of.

    One to learn from ends with an assistant's message; a question ends with a user's or a tool's.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    def before(self, index: int) -> Conversation:
        """The conversation before message ``index``."""
        return Conversation(messages=self.messages[:index], tools=self.tools)

    @property
    def question(self) -> str:
        """What is asked: all texts before the last message but the system's, one a line."""
        asked = [m for m in self.messages[:-1] if m["role"] != "system"]
        return "\n".join([str(m.get("content") or "") for m in asked])

    @property
    def context(self) -> str:
        """What the question is asked in: system texts, tools, tool calls before the last message.

        The same JSON text for the same of them; "" where there are none.
        """
        before = self.messages[:-1]
        texts = [str(m.get("content") or "") for m in before if m["role"] == "system"]
        system = [text for text in texts if text.strip()]
        # Not the ids of calls, which are chance and say nothing.
        calls = [
            [call.get("function", call) for call in m["tool_calls"]]
            for m in before
            if m.get("tool_calls")
        ]
        if not (system or calls or self.tools):
            return ""
        said = {"system": system, "tools": self.tools, "tool_calls": calls}
        return json.dumps(said, ensure_ascii=False, sort_keys=True)
