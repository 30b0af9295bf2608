"""The format of a dataset whose recipe names none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.data.formats.format_detection import resolve_format
from runner.data.reading.sources import resolve_source
from runner.errors import DataError
from runner.recipe import Dataset
from tests.runner.data.reading.source_rows import json_lines

ALPACA = {"instruction": "a", "output": "b"}
TURNS = [{"from": "human", "value": "x"}]
MESSAGES = [{"role": "user", "content": "x"}]
PAIR = {"prompt": "a", "completion": "b"}


def detected(folder: Path, row: dict[str, Any], **keys: Any) -> tuple[str, bool]:
    (folder / "a.jsonl").write_text(json_lines([row]))
    dataset = Dataset.model_validate({"source": "a.jsonl", **keys})
    return resolve_format(dataset, resolve_source(dataset, folder))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (ALPACA, "alpaca"),
        ({**ALPACA, "input": "", "text": "all of it", "prompt": "x"}, "alpaca"),
        ({"messages": MESSAGES, "prompt": "x"}, "messages"),
        ({"messages": "[]"}, "messages"),
        ({"conversations": TURNS, "id": 3}, "sharegpt"),
        (PAIR, "prompt_completion"),
        ({"text": "x", "id": 3}, "text"),
    ],
)
def test_the_columns_of_the_first_row_say_the_format(
    tmp_path: Path, row: dict[str, Any], name: str
) -> None:
    assert detected(tmp_path, row) == (name, True)


def test_columns_are_looked_for_under_the_recipes_names(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b", "messages": MESSAGES}
    columns = {"instruction": "question", "output": "answer", "messages": "chat"}
    assert detected(tmp_path, row, columns=columns) == ("alpaca", True)


def test_a_format_that_is_named_is_taken_whatever_the_rows_are(tmp_path: Path) -> None:
    assert detected(tmp_path, {"x": 1}, format="text") == ("text", False)
    with pytest.raises(DataError, match=r"'txt' is not one of .* Did you mean text"):
        detected(tmp_path, {"x": 1}, format="txt")


def test_where_several_fit_the_recipe_must_say(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        detected(tmp_path, {**ALPACA, **PAIR})
    assert str(caught.value) == (
        "dataset.format: the first row has the columns 'instruction', 'output', 'prompt', "
        "'completion', and these formats fit: alpaca, prompt_completion. Write the one that is "
        "meant, for example format: alpaca"
    )


@pytest.mark.parametrize("row", [{"question": "a", "answer": "b"}, {"conversations": MESSAGES}])
def test_where_none_fits_every_need_is_listed(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        detected(tmp_path, row)
    assert f"the first row has the columns {', '.join(map(repr, row))}, and no format fits" in str(
        caught.value
    )
    assert "alpaca needs 'instruction' and 'output'; messages needs 'messages'; " in str(
        caught.value
    )
