"""The ledger lies beside the recipe, unless it cannot or must not."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from runner.ledger_place import LEDGER_FILE, ledger_place


def test_beside_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "mine.yaml"
    recipe.parent.mkdir()
    recipe.touch()
    assert ledger_place(recipe, tmp_path / "runs") == (recipe.parent / LEDGER_FILE, None)


def test_never_in_the_installed_package(tmp_path: Path) -> None:
    quickstart = Path(str(files("recipes"))) / "quickstart.yaml"
    assert ledger_place(quickstart, tmp_path) == (tmp_path / LEDGER_FILE, None)


@pytest.mark.parametrize("read_only", ["the folder", "the ledger"])
def test_a_recipe_that_cannot_be_written_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    (tmp_path / LEDGER_FILE).touch()
    refused = tmp_path if read_only == "the folder" else tmp_path / LEDGER_FILE
    # By hand, because root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != refused)
    place, why = ledger_place(recipe, tmp_path / "runs")
    assert place == tmp_path / "runs" / LEDGER_FILE
    assert why is not None and "cannot be written" in why


def test_a_recipe_that_has_gone(tmp_path: Path) -> None:
    place, why = ledger_place(None, tmp_path)
    assert place == tmp_path / LEDGER_FILE
    assert why is not None and "gone" in why
