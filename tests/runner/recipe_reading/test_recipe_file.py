"""Finding and reading recipe files, from a checkout or an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import RecipeError, UsageError
from runner.recipe_reading import recipe_file
from runner.recipe_reading.recipe_file import find_recipe, read_recipe, shipped_recipes

SMALL = """version: 1
name: small
dataset: {source: data/train.jsonl}
model: {base: models/tiny}
training: {max_steps: 100}
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_every_shipped_recipe_is_valid() -> None:
    assert "mistral-7b-gptq-code" in shipped_recipes()
    for name, path in shipped_recipes().items():
        assert read_recipe(path).name == name or path.suffix == ".json"


def test_the_schema_is_no_recipe() -> None:
    assert not any(name.endswith("schema") for name in shipped_recipes())


def test_a_recipe_is_found_by_its_path(small: Path) -> None:
    assert find_recipe("small.yaml") == Path("small.yaml")
    assert find_recipe(small) == small


def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(small: Path) -> None:
    found = find_recipe("mistral-7b-gptq-code")
    assert found.is_absolute()
    assert read_recipe(found).name == "mistral-7b-gptq-code"


def test_a_folder_of_that_name_does_not_hide_it(small: Path) -> None:
    (small.parent / "mistral-7b-gptq-code").mkdir()
    assert find_recipe("mistral-7b-gptq-code").is_file()


def test_an_unknown_name_lists_the_shipped_ones_and_the_nearest(small: Path) -> None:
    with pytest.raises(UsageError) as raised:
        find_recipe("mistral-7b-gptq-cod")
    message = str(raised.value)
    assert message.startswith("'mistral-7b-gptq-cod' is neither a file nor a shipped recipe.")
    assert all(name in message for name in shipped_recipes())
    assert message.endswith("Did you mean mistral-7b-gptq-code?")
    assert raised.value.exit_code == 2


def test_a_name_too_long_for_a_file_is_unknown() -> None:
    with pytest.raises(UsageError, match="is neither a file nor a shipped recipe"):
        find_recipe("x" * 5000)


def test_a_missing_path_says_so(small: Path) -> None:
    with pytest.raises(UsageError, match=r"recipes/x\.yaml: there is no such file\. Shipped"):
        find_recipe("recipes/x.yaml")
    with pytest.raises(UsageError, match="Without its path, mistral-7b-gptq-code is a shipped one"):
        find_recipe("recipes/mistral-7b-gptq-code.yaml")


def test_a_file_is_shown_as_it_was_given(small: Path) -> None:
    small.write_text("version: 1\n", encoding="utf-8")
    for shown, arguments in {
        "small.yaml": {"path": Path("small.yaml")},
        str(small): {"path": small},
        "mine": {"path": small, "shown": "mine"},
    }.items():
        with pytest.raises(RecipeError) as raised:
            read_recipe(**arguments)  # type: ignore[arg-type]
        assert {fault.file for fault in raised.value.faults} == {shown}


def test_a_file_whose_name_is_no_text_can_be_told(small: Path) -> None:
    path = small.parent / b"n\xff.yaml".decode("utf-8", "surrogateescape")
    with pytest.raises(RecipeError) as raised:
        read_recipe(path)
    assert "\\udcff.yaml:1:1: there is no such file" in str(raised.value)
    assert str(raised.value).encode("utf-8")


def test_the_key_for_editors_is_no_part_of_a_recipe(small: Path) -> None:
    before = read_recipe(small)
    small.write_text(f"$schema: ./recipe.schema.json\n{SMALL}", encoding="utf-8")
    assert read_recipe(small) == before


def test_recipes_are_found_where_the_package_is_installed(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_file, "files", lambda package: small.parent)
    assert list(shipped_recipes()) == ["small"]
    assert find_recipe("small") == small
