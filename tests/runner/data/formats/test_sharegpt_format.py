"""The format sharegpt: the same conversations as in format messages, written otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.data.formats.messages_format import MessagesFormat
from runner.data.formats.sharegpt_format import ROLE_OF, SharegptFormat
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Columns, Template

CALL = {"name": "add", "arguments": {"a": 1}}


def turn(speaker: str, value: Any, **keys: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value, **keys}


def form(**keys: Any) -> SharegptFormat:
    return SharegptFormat(Columns(**keys), Template())


def refusal(*turns: Any) -> str:
    with pytest.raises(RowError) as caught:
        form().conversation({"conversations": list(turns)})
    return str(caught.value)


def test_turns_become_the_messages_that_they_are() -> None:
    turns = [
        turn("system", "Be short."),
        turn("human", "1 + 2?"),
        turn("function_call", json.dumps(CALL)),
        turn("observation", "3"),
        turn("gpt", "It is 3.", weight=0, id=7),
    ]
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3.", "train": False},
    ]
    row, other = {"conversations": turns, "t": "[]"}, {"messages": messages, "t": None}
    same = MessagesFormat(Columns(tools="t"), Template())
    assert form(tools="t").conversation(row) == same.conversation(other)
    assert form(tools="t").content(row) == same.content(other)


@pytest.mark.parametrize("value", [CALL, [CALL, CALL], json.dumps(CALL), json.dumps([CALL, CALL])])
def test_a_call_is_an_object_a_list_or_the_text_of_one(value: Any) -> None:
    turns = [turn("user", "x"), turn("function_call", value)]
    calls = form().conversation({"conversations": turns}).messages[-1]["tool_calls"]
    assert [call["function"] for call in calls] == [CALL] * len(calls)


def test_speakers_are_those_of_the_sets_on_the_hub() -> None:
    assert {"human", "user", "gpt", "assistant", "system", "tool", "observation"} <= ROLE_OF.keys()


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([], "has no messages"),
        ([turn("narrator", "x")], "a turn from 'narrator'; known are system, human"),
        ([{"role": "user", "content": "x"}], "not an object with `from` and `value`"),
        ([turn("human", "x"), turn("gpt", "y", content="z")], "keys of both formats"),
        ([turn("human", "x"), turn("gpt", None)], "of role 'assistant' without content"),
        ([turn("human", "x"), turn("function_call", "add(1)")], "a function call is not JSON"),
        ([turn("human", "x"), turn("function_call", [])], "the value of a function call is empty"),
        ([turn("human", "x")], "ends with a message of role 'user'"),
        ([turn("human", "x"), turn("gpt", "y", emotion="sad")], "'emotion', which is not read"),
    ],
)
def test_a_conversation_that_cannot_be_used_says_why(turns: list[Any], fault: str) -> None:
    assert fault in refusal(*turns)


def test_templates_of_turns_are_refused() -> None:
    with pytest.raises(DataError, match="with `format: sharegpt`"):
        SharegptFormat(Columns(), Template(assistant="{{ x }}"))
