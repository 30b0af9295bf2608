"""The formats prompt_completion and text: texts, and what is not asked."""

from __future__ import annotations

from typing import Any

import pytest

from runner.data.formats.prompt_completion_format import PromptCompletionFormat
from runner.data.formats.text_format import TextFormat
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Columns, Template

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}


def form(**template: Any) -> PromptCompletionFormat:
    return PromptCompletionFormat(Columns(), Template(**template))


def test_texts_are_a_question_and_an_answer() -> None:
    for prompt in ("hi", [USER]):
        for completion in ("ho", [ANSWER]):
            row = {"prompt": prompt, "completion": completion}
            assert form().conversation(row).messages == (USER, ANSWER)
            assert form().content(row) == {"prompt": [USER], "completion": [ANSWER]}


def test_lists_are_joined_after_the_recipes_system_message() -> None:
    row = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER, USER, ANSWER], "who": "Ada"}
    made = form(system="You are {{ who }}.")
    assert [column.name for column in made.columns] == ["prompt", "completion", "who"]
    system = {"role": "system", "content": "You are Ada."}
    assert made.conversation(row).messages == (system, USER, ANSWER, USER, ANSWER, USER, ANSWER)
    assert made.question("Why?").messages[-1] == {"role": "user", "content": "Why?"}


@pytest.mark.parametrize(
    ("prompt", "completion", "fault"),
    [
        ("hi", [], "a completion that does not begin with an assistant's message"),
        ("hi", [USER], "a completion that does not begin with an assistant's message"),
        ([], "ho", "no user's message before the first answer"),
        ([USER, ANSWER], "ho", "a prompt that ends with an assistant's message"),
        ("hi", [ANSWER, USER], "ends with a message of role 'user'"),
        ([3], "ho", "not an object with `role` and `content`"),
    ],
)
def test_sides_that_are_no_conversation_say_why(prompt: Any, completion: Any, fault: str) -> None:
    row = {"prompt": prompt, "completion": completion}
    with pytest.raises(RowError, match=fault):
        form().conversation(row)
    assert form().content(row).keys() == row.keys()


def test_reading_refuses_what_is_neither_text_nor_list() -> None:
    for column in form().columns:
        assert column.fault_of(None) == "holds null, neither a text nor a list of messages"
        assert column.fault_of("x") is None


@pytest.mark.parametrize("name", ["prompt", "completion"])
def test_a_system_message_does_not_show_the_row(name: str) -> None:
    with pytest.raises(DataError, match=rf"template\.system names `{name}`"):
        form(system="{{ " + name + " }}")


def test_plain_text_is_one_message_that_answers_nothing() -> None:
    made = TextFormat(Columns(text="content"), Template(loss_on="all"))
    row = {"content": " Once upon a time.\n"}
    assert made.conversation(row).messages == (
        {"role": "assistant", "content": " Once upon a time.\n"},
    )
    assert made.content(row) == {"text": row["content"]}
    with pytest.raises(RowError, match="format text asks nothing, and 'Why"):
        made.question("Why?")


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ({}, r"template\.loss_on is completion, but the format is text"),
        ({"loss_on": "all", "system": "x"}, r"template\.system is set, but with `format: text`"),
    ],
)
def test_what_plain_text_has_no_use_for_is_refused(template: Any, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        TextFormat(Columns(), Template(**template))
