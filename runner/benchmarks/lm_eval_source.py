"""What tasks of lm-evaluation-harness depend on besides the recipe: its version, a task folder."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError
from runner.recipe import Recipe

_LEFT_OUT = ("__pycache__",)  # written where a task's Python code is first run


def check_lm_eval(recipe: Recipe, base_folder: Path) -> None:
    """Refuse before any work what cannot run after it.

    Raises:
        MachineError: the extra is not installed, or the folder of tasks is not there.
    """
    block = recipe.evaluation.lm_eval
    if block is None:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise MachineError(
            "evaluation.lm_eval needs the package lm_eval, which is not installed: "
            "pip install 'proofbox[lm-eval]'"
        )
    folder = lm_eval_folder(recipe, base_folder)
    if folder is not None and not folder.is_dir():
        raise MachineError(
            f"evaluation.lm_eval.include_path: {block.include_path!r} is no folder (looked for "
            f"{folder})"
        )


def lm_eval_folder(recipe: Recipe, base_folder: Path) -> Path | None:
    """The folder of task files, or None where the recipe has none."""
    block = recipe.evaluation.lm_eval
    if block is None or block.include_path is None:
        return None
    return (base_folder / Path(block.include_path).expanduser()).resolve()


def lm_eval_identity(recipe: Recipe, base_folder: Path) -> dict[str, Any] | None:
    """The harness's version and the digest of the task folder; None where none is run."""
    if recipe.evaluation.lm_eval is None:
        return None
    folder = lm_eval_folder(recipe, base_folder)
    installed = importlib.util.find_spec("lm_eval") is not None
    return {
        "version": version("lm_eval") if installed else None,
        "tasks": None if folder is None else _digest(folder),
    }


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder): path for path in files}
    return digest_of_json(
        {n.as_posix(): file_digest(p) for n, p in named.items() if not {*_LEFT_OUT} & {*n.parts}}
    )
