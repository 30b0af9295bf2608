"""The registry of formats: names, plug-ins, and what every format must have."""

from __future__ import annotations

import pickle
from importlib.metadata import EntryPoint

import pytest

from runner.data.formats import row_formats as formats
from runner.data.formats.row_formats import FORMATS, row_format
from runner.data.formats.text_format import TextFormat
from runner.errors import DataError
from runner.recipe import Columns, Template
from runner.recipe_reading.format_columns import FORMAT_COLUMNS, REQUIRED_COLUMNS


def _template(name: str) -> Template:
    return Template(loss_on="all" if name == "text" else "completion")


@pytest.mark.parametrize("name", FORMATS)
def test_every_listed_format_can_be_made_and_sent_to_another_process(name: str) -> None:
    made = row_format(name, Columns(tests="tests"), _template(name))
    assert made.columns
    assert pickle.loads(pickle.dumps(made)).columns == made.columns


def test_the_rules_of_recipes_know_the_same_formats_and_columns() -> None:
    assert FORMATS.keys() == FORMAT_COLUMNS.keys() == REQUIRED_COLUMNS.keys()
    every = {key: f"my-{key}" for key in Columns.model_fields}
    for name, keys in FORMAT_COLUMNS.items():
        made = row_format(name, Columns(**every), _template(name))
        own = [key for key in keys if key not in ("slice", "cluster")]  # read with any format
        assert {column.name for column in made.columns} == {every[key] for key in own}
        assert len(own) == len(keys) - 2
        needed = {column.name for column in made.columns if not column.optional}
        assert {every[key] for key in REQUIRED_COLUMNS[name]} <= needed


def test_an_unknown_format_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(
        DataError,
        match=r"not one of alpaca, messages, prompt_completion, sharegpt, text\. Did you mean alp",
    ):
        row_format("alpacca", Columns(), Template())


def test_a_plugin_adds_a_format_and_takes_no_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "runner.data.formats.text_format:TextFormat"
    points = [
        EntryPoint(name=name, value=value, group="proofbox.formats") for name in ("poem", "alpaca")
    ]
    monkeypatch.setattr(formats, "entry_points", lambda group: points)
    assert isinstance(row_format("poem", Columns(), _template("text")), TextFormat)
    assert not isinstance(row_format("alpaca", Columns(), Template()), TextFormat)
