"""Where the ledger of looks of a recipe is kept."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

LEDGER_FILE = "proofbox.ledger.jsonl"


def ledger_place(recipe_file: Path | None, runs: Path) -> tuple[Path, str | None]:
    """The ledger's file, and why it is not beside the recipe where it is not.

    Beside the recipe it is committed with it, and whoever trains on the same rows shares it. The
    recipes that are installed with proofbox keep theirs in the folder of runs, and so does a recipe
    whose folder cannot be written.
    """
    kept = runs / LEDGER_FILE
    if recipe_file is None:
        return kept, f"the recipe has gone: the ledger of looks is kept in {kept}."
    folder = recipe_file.resolve().parent
    if folder == Path(str(files("recipes"))).resolve():
        return kept, None
    if not _writable(folder):
        return kept, (
            f"{folder} cannot be written: the ledger of looks is kept in {kept} and not beside the "
            "recipe. Commit it with the recipe, or looks from elsewhere will not be counted."
        )
    return folder / LEDGER_FILE, None


def _writable(folder: Path) -> bool:
    ledger = folder / LEDGER_FILE
    return os.access(folder, os.W_OK) and (not ledger.exists() or os.access(ledger, os.W_OK))
