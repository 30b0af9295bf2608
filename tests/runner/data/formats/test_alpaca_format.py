"""The format alpaca: row templates over instruction, input and output."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.data.formats.alpaca_format import AlpacaFormat
from runner.data.formats.conversation import Message
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Columns, Template
from tests.runner.data.reading.source_rows import json_lines, read

ROW = {"instruction": "Add.", "input": "1 2", "output": "3"}


def alpaca(columns: Columns | None = None, **template: str) -> AlpacaFormat:
    return AlpacaFormat(columns or Columns(), Template(**template))


def messages(made: AlpacaFormat, row: dict[str, str]) -> list[Message]:
    return list(made.conversation(row).messages)


def test_without_templates_instruction_and_input_are_joined() -> None:
    assert messages(alpaca(), ROW) == [
        {"role": "user", "content": "Add.\n\n1 2"},
        {"role": "assistant", "content": "3"},
    ]
    assert messages(alpaca(), {**ROW, "input": ""})[0]["content"] == "Add."
    written = alpaca(
        user="{{ instruction }}{% if input %}\n\n{{ input }}{% endif %}", assistant="{{ output }}"
    )
    for row in (ROW, {**ROW, "input": ""}, {**ROW, "instruction": "{{ 7 * 7 }}\n"}):
        assert alpaca().conversation(row) == written.conversation(row)
        assert alpaca().content(row) == written.content(row)


def test_an_input_that_is_null_or_missing_is_empty(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "input": None}, {k: v for k, v in ROW.items() if k != "input"}]
    (tmp_path / "a.jsonl").write_text(json_lines(rows))
    read_rows = read(tmp_path, "a.jsonl", alpaca().columns)
    assert [messages(alpaca(), row)[0]["content"] for row in read_rows] == [
        "Add.\n\n1 2",
        "Add.",
        "Add.",
    ]


def test_row_templates_keep_their_outer_white_space() -> None:
    made = alpaca(
        user=" {{ instruction }} Here are the inputs {{ input }} \n",
        assistant=" {{ output }} ",
        system="Be short.\n",
    )
    assert messages(made, ROW) == [
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
    assert messages(made, row)[0]["content"] == "Q: 1+1?"
    assert made.content(row) == alpaca(Columns(input=None), user="{{ instruction }}").content(
        {"instruction": "1+1?", "output": "2"}
    )


def test_row_text_is_never_read_as_a_template() -> None:
    row = {**ROW, "instruction": "{{ 7 * 7 }} {% raise %}"}
    assert messages(alpaca(), row)[0]["content"].startswith("{{ 7 * 7 }} {% raise %}")


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


def test_a_question_is_the_instruction_and_nothing_else() -> None:
    made = alpaca(system="Be short.")
    assert list(made.question("Why?").messages) == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Why?"},
    ]
