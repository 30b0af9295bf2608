"""A list of messages as OpenAI's API has it, made uniform; what would be lost is refused.

Nothing that changes what is trained on may be dropped in silence. A message's keys are either read,
or known to say nothing that is trained on (``HARMLESS``), or empty, or the row is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.data.formats.conversation import ROLES, Message
from runner.data.reading.row_column import type_name
from runner.data.reading.row_template import RowError

# Keys of a message that say who, when and how, and nothing that is trained on.
HARMLESS = frozenset({
    "id", "message_id", "uuid", "parent_id", "index", "turn", "timestamp", "created", "created_at",
    "create_time", "updated_at", "date", "time", "model", "lang", "language", "finish_reason",
    "token_count", "tokens", "n_tokens",
})  # fmt: skip
REASONING = ("reasoning_content", "thinking", "reasoning")
_READ = frozenset({
    "role", "content", "name", "tool_calls", "tool_call_id", "train", "weight", *REASONING,
})  # fmt: skip


def list_fault(value: object) -> str | None:
    """What keeps a value from being a list, its JSON text, or nothing at all; or None."""
    if value is None or isinstance(value, str | list):
        return None
    return f"holds {type_name(value)}, not a list"


def list_or_text_fault(value: object) -> str | None:
    """What keeps a value from being a text or a list of messages, or None."""
    if isinstance(value, str | list):
        return None
    return f"holds {type_name(value)}, neither a text nor a list of messages"


def json_list(value: Any, what: str) -> list[Any]:  # noqa: ANN401 - any JSON value
    """``value``, or the list that its JSON text holds; null and an empty text are no items.

    Raises:
        RowError: it is no list.
    """
    if isinstance(value, str) and value.strip():
        value = parsed(value, what)
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise RowError(f"{what} holds {type_name(value)}, not a list")
    return value


def parsed(text: str, what: str) -> Any:  # noqa: ANN401 - any JSON value
    """What a JSON text holds.

    Raises:
        RowError: it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise RowError(f"{what} is not JSON ({error.msg} at character {error.pos + 1})") from None
    except (ValueError, RecursionError):
        raise RowError(f"{what} is not JSON that can be read") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def tool_definitions(value: Any) -> tuple[Mapping[str, Any], ...]:  # noqa: ANN401 - any JSON value
    """The tools that a row defines: a list of objects, or the JSON text of one.

    Raises:
        RowError: it is neither.
    """
    tools = [
        parsed(tool, "a tool definition") if isinstance(tool, str) else tool
        for tool in json_list(value, "tools")
    ]
    for tool in tools:
        if not isinstance(tool, dict):
            raise RowError(f"tools has {type_name(tool)}, not an object that defines a tool")
    return tuple(tools)


def check_order(messages: Sequence[Message]) -> None:
    """Whether the messages are a conversation that can be learned from.

    Raises:
        RowError: they are not.
    """
    if not messages:
        raise RowError("has no messages")
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant":
        raise RowError(f"ends with a message of role {roles[-1]!r}, not 'assistant'")
    if "system" in roles[1:]:
        raise RowError("has a system message that is not the first")
    if "user" not in roles[: roles.index("assistant")]:
        raise RowError("has no user's message before the first answer")


def uniform_message(message: object) -> Message:
    """One message with its keys as ``runner.data.formats.conversation`` has them.

    Raises:
        RowError: it is no message, or holds what this version cannot train on.
    """
    if not isinstance(message, Mapping) or "role" not in message:
        raise RowError("has a message that is not an object with `role` and `content`")
    role = message["role"]
    if role not in ROLES:
        raise RowError(f"has a message of role {role!r}; known are {', '.join(ROLES)}")
    if len(message) == 2 and isinstance(message.get("content"), str):  # noqa: PLR2004 - role and content: nearly all
        return {"role": role, "content": message["content"]}
    refuse_unread(message, _READ)
    made: dict[str, Any] = {"role": role, "content": joined_content(message.get("content"))}
    for key in ("name", "tool_call_id"):
        if _says(message.get(key)):
            made[key] = _text(message[key], key)
    of_assistant = _assistants_keys(message)
    if of_assistant and role != "assistant":
        raise RowError(f"has a {role}'s message with {next(iter(of_assistant))!r}")
    made.update(of_assistant)
    if role == "assistant" and (trained := _trained(message)) is not None:
        made["train"] = trained
    elif role != "assistant" and _trained(message):
        raise RowError(f"has a {role}'s message that is to be trained on: only an assistant's can")
    return _with_content(made)


def _with_content(made: dict[str, Any]) -> Message:
    if made["content"] is None:
        if "tool_calls" not in made:
            raise RowError(f"has a message of role {made['role']!r} without content")
        del made["content"]
    return made


def refuse_unread(message: Mapping[str, Any], read: frozenset[str]) -> None:
    """Refuse a message with a key that nobody reads and that is not known to be harmless.

    Raises:
        RowError: there is one, and it is not empty.
    """
    for key in message.keys() - read - HARMLESS:
        if _says(message[key]):
            raise RowError(f"has a message with the key {key!r}, which is not read")


def _says(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"has a message whose {key} holds {type_name(value)}, not a text")
    return value


def joined_content(value: object) -> str | None:
    """A message's content: a text, the texts of its parts joined, or None.

    Raises:
        RowError: it is neither, or has a part that is no text.
    """
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError(f"has a message whose content holds {type_name(value)}, not a text")
    return "".join(map(_part_text, value))


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or "type" not in part:
        raise RowError("has a message whose content has a part that is no {type, text} object")
    if part["type"] != "text" or not isinstance(part.get("text"), str):
        raise RowError(f"has a message with a part of type {part['type']!r}: only texts are read")
    return str(part["text"])


def _assistants_keys(message: Mapping[str, Any]) -> dict[str, Any]:
    """Reasoning and tool calls, which only an assistant's message has."""
    made: dict[str, Any] = {}
    thoughts = [_text(message[k], k) for k in REASONING if message.get(k) is not None]
    if len(set(thoughts)) > 1:
        raise RowError(f"has a message with more than one of {', '.join(REASONING)}")
    if thoughts and (thoughts[0] or message["role"] == "assistant"):
        made["reasoning_content"] = thoughts[0]
    if _says(message.get("tool_calls")):
        made["tool_calls"] = [
            uniform_call(call) for call in json_list(message["tool_calls"], "tool_calls")
        ]
    return made


def uniform_call(call: object) -> dict[str, Any]:
    """A tool call as {type, function: {name, arguments}} with arguments as an object.

    Raises:
        RowError: it names no function, or its arguments are no object.
    """
    if not isinstance(call, Mapping):
        raise RowError(f"has a tool call that is {type_name(call)}, not an object")
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError("has a tool call without a function's name")
    about, said = {"id", "type", "index", "function"}, {"name", "arguments"}
    unread = sorted({*call} - about - (said if function is call else set()))
    unread += sorted({*function} - said - (about if function is call else set()))
    if unread:
        raise RowError(f"has a tool call with the key {unread[0]!r}, which is not read")
    if call.get("type") not in (None, "function"):
        raise RowError(f"has a tool call of type {call['type']!r}: only functions can be called")
    made: dict[str, Any] = {"type": "function"}
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    arguments = _arguments(function.get("arguments"))
    return {**made, "function": {"name": function["name"], "arguments": arguments}}


def _arguments(value: object) -> dict[str, Any]:
    if isinstance(value, str) and value.strip():
        value = parsed(value, "the text of a tool call's arguments")
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    if not isinstance(value, dict):
        raise RowError(f"has a tool call whose arguments hold {type_name(value)}, not an object")
    return value


def _trained(message: Mapping[str, Any]) -> bool | None:
    """Whether a message is to be trained on, by its ``train`` or OpenAI's ``weight``; or None."""
    said = []
    for key, allowed in (("train", (True, False)), ("weight", (0, 1))):
        value = message.get(key)
        if value is None:
            continue
        if value not in allowed or (key == "train") != isinstance(value, bool):
            kinds = {"train": "true or false", "weight": "0 or 1"}
            raise RowError(f"has a message whose {key} is {value!r}, not {kinds[key]}")
        said.append(bool(value))
    if len(set(said)) > 1:
        raise RowError("has a message whose train and weight contradict each other")
    return said[0] if said else None
