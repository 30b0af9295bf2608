"""``proofbox eval``: judge an adapter or a model that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path

from runner.commands.run import EXIT_CODES, show_outcome
from runner.errors import ExitCode
from runner.pipeline import judge_target
from runner.progress import Progress
from runner.recipe_reading.recipe_file import find_recipe


def evaluate(
    target: str, *, recipe: str, runs: Path, device: str | None, other_base: bool = False
) -> ExitCode:
    """Evaluate ``target`` beside the recipe's base model and judge it by the recipe's gates.

    The exit code is the verdict's, as of ``proofbox gate``.
    """
    outcome = judge_target(
        target,
        find_recipe(recipe),
        runs=runs,
        device=device,
        progress=Progress(),
        other_base=other_base,
    )
    show_outcome(outcome)
    return EXIT_CODES[outcome.verdict.verdict]
