from __future__ import annotations

import pytest

from runner.data.formats import FORMATS, AlpacaFormat, MessagesFormat, messages_fault, row_format
from runner.data.row_template import RowError
from runner.errors import DataError
from runner.recipe import Columns, Template

ROW = {"instruction": "Add.", "input": "1 2", "output": "3"}


def alpaca(columns: Columns | None = None, **template: str) -> AlpacaFormat:
    return AlpacaFormat(columns or Columns(), Template(**template))


def test_every_listed_format_can_be_made() -> None:
    for name in FORMATS:
        assert row_format(name, Columns(), Template()).columns


def test_an_unknown_format_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(DataError, match=r"not one of alpaca, messages\. Did you mean alpaca\?"):
        row_format("alpacca", Columns(), Template())


def test_alpaca_without_templates_joins_instruction_and_input() -> None:
    assert alpaca().conversation(ROW) == [
        {"role": "user", "content": "Add.\n\n1 2"},
        {"role": "assistant", "content": "3"},
    ]
    assert alpaca().conversation({**ROW, "input": ""})[0]["content"] == "Add."


def test_row_templates_keep_their_outer_white_space() -> None:
    made = alpaca(
        user=" {{ instruction }} Here are the inputs {{ input }} \n",
        assistant=" {{ output }} ",
        system="Be short.\n",
    )
    assert made.conversation(ROW) == [
        {"role": "system", "content": "Be short.\n"},
        {"role": "user", "content": " Add. Here are the inputs 1 2 \n"},
        {"role": "assistant", "content": " 3 "},
    ]


def test_only_columns_that_a_template_names_are_read() -> None:
    mapped = Columns(instruction="question", input=None, output="answer", tests="checks")
    names = {column.name for column in alpaca(mapped).columns}
    assert names == {"question", "answer", "checks"}
    other = alpaca(user="{{ instruction }} in {{ language }}")
    assert {column.name for column in other.columns} == {"instruction", "language", "output"}


def test_mapped_columns_keep_the_names_of_their_parts() -> None:
    mapped = Columns(instruction="question", input=None, output="answer")
    row = {"question": "1+1?", "answer": "2"}
    made = alpaca(mapped, user="Q: {{ instruction }}")
    assert made.conversation(row)[0]["content"] == "Q: 1+1?"
    assert made.content(row) == alpaca(Columns(input=None), user="{{ instruction }}").content(
        {"instruction": "1+1?", "output": "2"}
    )


def test_row_text_is_never_read_as_a_template() -> None:
    row = {**ROW, "instruction": "{{ 7 * 7 }} {% raise %}"}
    assert alpaca().conversation(row)[0]["content"].startswith("{{ 7 * 7 }} {% raise %}")


@pytest.mark.parametrize(
    ("key", "template", "message"),
    [
        ("user", "{{ instruction", r"template\.user: not a Jinja template.*line 1"),
        ("user", "{% for x in y %}", r"template\.user: not a Jinja template"),
        ("assistant", "An answer.", r"never renders the answer: it does not name `output`"),
        (
            "assistant",
            "{% if false %}{{ output }}{% endif %}no",
            r"never renders the answer: .*'no'",
        ),
        ("user", "{{ instruction }} {{ output }}", r"template\.user names `output`: it would show"),
        ("system", "{{ output }}", r"template\.system names `output`"),
    ],
)
def test_a_useless_template_is_refused(key: str, template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        alpaca(**{key: template})


def test_input_without_a_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"names `input`, but dataset\.columns\.input is null"):
        _ = alpaca(Columns(input=None), user="{{ instruction }} {{ input }}").columns


@pytest.mark.parametrize(
    "template",
    [
        "{{ instruction.missing.name }}",
        "{{ instruction / 2 }}",
        "{{ 1 // (input | length) }}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_a_template_that_raises_is_named(template: str) -> None:
    made = alpaca(user=template + "{{ instruction }}")
    with pytest.raises(RowError, match=r"^template\.user raised \w+: "):
        made.conversation({**ROW, "input": ""})


def test_messages_are_taken_as_they_are() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " ho "}]
    made = MessagesFormat(Columns(), Template())
    assert made.conversation({"messages": messages}) == messages


def test_a_system_message_of_the_recipe_is_put_where_there_is_none() -> None:
    made = MessagesFormat(Columns(messages="chat"), Template(system="You are {{ name }}."))
    own = {"role": "system", "content": "Mine."}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert {column.name for column in made.columns} == {"chat", "name"}
    first = made.conversation({"chat": turns, "name": "Ada"})[0]
    assert first == {"role": "system", "content": "You are Ada."}
    assert made.conversation({"chat": [own, *turns], "name": "Ada"})[0] == own


def test_row_templates_are_of_no_use_to_messages() -> None:
    with pytest.raises(DataError, match=r"template\.user is set, but with `format: messages`"):
        MessagesFormat(Columns(), Template(user="{{ x }}"))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("text", "holds a text, not a list of messages"),
        (None, "holds null, not a list of messages"),
        ([], "holds an empty list"),
        (["x"], "not an object with `role` and `content`"),
        ([{"role": "user"}], "not an object with `role` and `content`"),
        ([{"role": "tool", "content": "x"}], "role 'tool'; known are system, user, assistant"),
        ([{"role": "user", "content": 3}], "content holds a number"),
        ([{"role": "user", "content": "x"}], "ends with a message of role 'user'"),
        ([{"role": "assistant", "content": "x"}], "no user's message before the first answer"),
        (
            [
                {"role": "user", "content": "x"},
                {"role": "system", "content": "x"},
                {"role": "assistant", "content": "x"},
            ],
            "a system message that is not the first",
        ),
        (
            [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "", "tool_calls": [1]},
            ],
            "'tool_calls', which this version does not read",
        ),
    ],
)
def test_a_conversation_that_cannot_be_used_says_why(value: object, fault: str) -> None:
    assert fault in str(messages_fault(value))


def test_a_sound_conversation_has_no_fault() -> None:
    turn = [{"role": "user", "content": "x", "id": 3}, {"role": "assistant", "content": "y"}]
    assert messages_fault([{"role": "system", "content": "s"}, *turn, *turn]) is None
