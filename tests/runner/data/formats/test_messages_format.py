"""The format messages: everything that OpenAI's list may hold is kept, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.data.formats.conversation import Message
from runner.data.formats.message_list import HARMLESS
from runner.data.formats.messages_format import MessagesFormat
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Columns, Template

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": " ho "}
CALL = {"name": "add", "arguments": {"a": 1, "b": None}}
UNIFORM_CALL = {"type": "function", "function": CALL}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def made(columns: Columns | None = None, **template: Any) -> MessagesFormat:
    return MessagesFormat(columns or Columns(), Template(**template))


def messages(*given: Any) -> list[Message]:
    return list(made().conversation({"messages": list(given)}).messages)


def last(**keys: Any) -> Message:
    """The last message of a conversation whose assistant's message has ``keys``."""
    return messages(USER, {"role": "assistant", "content": "x", **keys})[-1]


def refusal(*given: Any) -> str:
    with pytest.raises(RowError) as caught:
        messages(*given)
    return str(caught.value)


def test_messages_are_taken_as_they_are() -> None:
    assert messages(USER, ANSWER) == [USER, ANSWER]
    text = json.dumps([USER, ANSWER])
    assert list(made().conversation({"messages": text}).messages) == [USER, ANSWER]


def test_a_system_message_of_the_recipe_is_put_where_there_is_none() -> None:
    form = made(Columns(messages="chat"), system="You are {{ name }}.")
    own = {"role": "system", "content": "Mine."}
    assert {column.name for column in form.columns} == {"chat", "name"}
    row = {"chat": [USER, ANSWER], "name": "Ada"}
    assert form.conversation(row).messages[0] == {"role": "system", "content": "You are Ada."}
    assert form.conversation({**row, "chat": [own, USER, ANSWER]}).messages[0] == own
    assert form.content(row) == made(Columns(messages="chat")).content(row)
    assert [m["content"] for m in form.question("Why?").messages] == ["You are .", "Why?"]


def test_templates_that_show_the_answer_or_do_nothing_are_refused() -> None:
    with pytest.raises(DataError, match=r"template\.user is set, but with `format: messages`"):
        made(user="{{ x }}")
    with pytest.raises(DataError, match=r"template\.system names `messages`: it would show"):
        made(system="{{ messages }}")


# Tools


@pytest.mark.parametrize(
    "call",
    [
        {"type": "function", "function": CALL},
        {"function": {**CALL, "arguments": json.dumps(CALL["arguments"])}},
        CALL,
        {**CALL, "type": "function", "index": 0},
    ],
)
def test_a_call_and_its_arguments_are_objects_however_they_are_written(call: Any) -> None:
    assert last(tool_calls=[call])["tool_calls"] == [UNIFORM_CALL]
    assert last(tool_calls=json.dumps([call]))["tool_calls"] == [UNIFORM_CALL]
    assert last(tool_calls=[{**call, "id": "7"}])["tool_calls"] == [{**UNIFORM_CALL, "id": "7"}]


@pytest.mark.parametrize("arguments", [None, "", " ", {}, "{}"])
def test_a_call_without_arguments_has_none(arguments: Any) -> None:
    call = {"function": {"name": "now", "arguments": arguments}}
    assert last(tool_calls=[call])["tool_calls"][0]["function"]["arguments"] == {}


def test_an_assistant_that_calls_may_leave_out_the_content() -> None:
    for keys in ({"content": None}, {}):
        call = {"role": "assistant", "tool_calls": [CALL], **keys}
        result = {"role": "tool", "content": "3", "tool_call_id": "7", "name": "add"}
        found = messages(USER, call, result, ANSWER)
        assert found[1] == {"role": "assistant", "tool_calls": [UNIFORM_CALL]}
        assert found[2] == result


@pytest.mark.parametrize(
    "written", [list, json.dumps, lambda tools: [json.dumps(t) for t in tools]]
)
def test_tools_are_a_list_or_its_text(written: Any) -> None:
    form = made(Columns(tools="functions"))
    row = {"messages": [USER, ANSWER], "functions": written([TOOL])}
    assert form.conversation(row).tools == (TOOL,)
    assert form.content(row) == form.content({**row, "functions": [TOOL]})
    for nothing in (None, "", [], "[]"):
        assert form.conversation({**row, "functions": nothing}).tools == ()


@pytest.mark.parametrize(
    ("tools", "fault"),
    [
        ("{", "tools is not JSON (Expecting property name enclosed in double quotes at char"),
        ('"x"', "tools holds a text, not a list"),
        ([3], "tools has a number, not an object that defines a tool"),
        ("[NaN]", "tools is not JSON that can be read"),
    ],
)
def test_tools_that_are_none_say_why(tools: Any, fault: str) -> None:
    with pytest.raises(RowError) as caught:
        made(Columns(tools="t")).conversation({"messages": [USER, ANSWER], "t": tools})
    assert fault in str(caught.value)


# What else a message may hold


def test_reasoning_is_kept_under_one_name() -> None:
    for key in ("reasoning_content", "thinking", "reasoning"):
        assert last(**{key: "hm"})["reasoning_content"] == "hm"
    assert "reasoning_content" not in last(thinking=None)
    assert "more than one of" in refusal(USER, {**ANSWER, "thinking": "a", "reasoning": "b"})
    assert "a user's message with 'reasoning_content'" in refusal({**USER, "thinking": "a"}, ANSWER)


@pytest.mark.parametrize(
    ("keys", "train"),
    [
        ({"train": False}, False),
        ({"train": True}, True),
        ({"weight": 0}, False),
        ({"weight": 1.0}, True),
        ({"weight": 0, "train": False}, False),
    ],
)
def test_whether_a_message_is_trained_on_is_kept(keys: Any, train: bool) -> None:
    assert last(**keys)["train"] is train


def test_train_and_weight_must_be_clear() -> None:
    for keys, fault in (
        ({"train": "no"}, "train is 'no', not true or false"),
        ({"train": 1}, "train is 1, not true or false"),
        ({"weight": 0.5}, "weight is 0.5, not 0 or 1"),
        ({"weight": True}, "weight is True, not 0 or 1"),
        ({"weight": 1, "train": False}, "train and weight contradict each other"),
    ):
        assert fault in refusal(USER, {**ANSWER, **keys})
    assert "train" not in messages({**USER, "train": False}, ANSWER)[0]
    assert "only an assistant's can" in refusal({**USER, "train": True}, ANSWER)


def test_parts_that_are_texts_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"]
    assert messages({"role": "user", "content": parts}, ANSWER)[0]["content"] == "abc"
    image = {"type": "image_url", "image_url": {"url": "x"}}
    said = refusal({"role": "user", "content": [image]}, ANSWER)
    assert "a part of type 'image_url': only texts are read" in said
    assert "no {type, text} object" in refusal({"role": "user", "content": [{"text": "a"}]}, ANSWER)


def test_no_key_is_dropped_that_is_not_known_to_be_harmless() -> None:
    assert messages({**USER, **dict.fromkeys(HARMLESS, 3)}, ANSWER) == [USER, ANSWER]
    assert messages({**USER, "audio": None, "images": [], "x": ""}, ANSWER) == [USER, ANSWER]
    for key in ("function_call", "audio", "images", "prefix"):
        assert f"the key {key!r}, which is not read" in refusal(USER, {**ANSWER, key: {"a": 1}})
    assert "a tool call with the key 'strict'" in refusal(
        USER, {**ANSWER, "tool_calls": [{**UNIFORM_CALL, "strict": True}]}
    )


def test_only_the_content_makes_two_rows_the_same() -> None:
    form, plain = made(), {"messages": [USER, ANSWER]}
    same = [{**USER, "id": 3}, {**ANSWER, "content": [{"type": "text", "text": " ho "}]}]
    assert form.content({"messages": same}) == form.content(plain)
    assert form.content({"messages": [USER, {**ANSWER, "train": False}]}) != form.content(plain)
    assert form.content({"messages": [3]}) == {"messages": [3], "tools": None}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([], "has no messages"),
        ("", "has no messages"),
        (None, "has no messages"),
        ("no JSON", "column 'messages' is not JSON"),
        (["x"], "not an object with `role` and `content`"),
        ([{"content": "x"}], "not an object with `role` and `content`"),
        ([{"role": "user"}, ANSWER], "a message of role 'user' without content"),
        ([USER, {"role": "assistant", "content": None}], "of role 'assistant' without content"),
        ([{"role": "developer", "content": "x"}], "role 'developer'; known are system, user, ass"),
        ([{"role": "user", "content": 3}], "content holds a number"),
        ([USER], "ends with a message of role 'user'"),
        ([ANSWER], "no user's message before the first answer"),
        (
            [USER, {"role": "system", "content": "x"}, ANSWER],
            "system message that is not the first",
        ),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "a user's message with 'tool_calls'"),
        ([USER, {**ANSWER, "tool_calls": [3]}], "a tool call that is a number"),
        ([USER, {**ANSWER, "tool_calls": [{}]}], "without a function's name"),
        ([USER, {**ANSWER, "tool_calls": [{**CALL, "arguments": "x"}]}], "arguments is not JSON"),
        ([USER, {**ANSWER, "tool_calls": [{**CALL, "arguments": "[]"}]}], "hold a list, not an"),
        ([USER, {**ANSWER, "tool_calls": [{**CALL, "type": "custom"}]}], "of type 'custom'"),
    ],
)
def test_a_conversation_that_cannot_be_used_says_why(value: Any, fault: str) -> None:
    with pytest.raises(RowError) as caught:
        made().conversation({"messages": value})
    assert fault in str(caught.value)


def test_reading_refuses_only_what_can_be_no_list() -> None:
    (column,) = made().columns
    assert column.fault_of(3) == "holds a number, not a list"
    assert column.fault_of({"a": 1}) == "holds an object, not a list"
    for value in ([], "x", [3], None):
        assert column.fault_of(value) is None
