"""``proofbox run``: a recipe from its text to a verdict and a release."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ExitCode
from runner.pipeline import run_recipe
from runner.progress import Progress
from runner.recipe_reading.recipe_file import find_recipe
from runner.stages import Outcome

EXIT_CODES = {
    "PASS": ExitCode.PASS,
    "FAIL": ExitCode.FAIL,
    "INCONCLUSIVE": ExitCode.INCONCLUSIVE,
    "ERROR": ExitCode.ENVIRONMENT,
}


def run(
    recipe: str, *, runs: Path, device: str | None, restart: bool, previous: Path | None = None
) -> ExitCode:
    """Run a recipe and print its verdict with the paths of report and release.

    A recipe without gates claims nothing: it ends with exit code 0 and no release.
    """
    progress = Progress()
    path = find_recipe(recipe)
    outcome = run_recipe(
        path, runs=runs, device=device, restart=restart, progress=progress, previous=previous
    )
    show_outcome(outcome)
    if not outcome.verdict.gates:
        return ExitCode.PASS
    return EXIT_CODES[outcome.verdict.verdict]


def show_outcome(outcome: Outcome) -> None:
    """Print the gates, the verdict and where things are."""
    from rich.console import Console

    from reports.terminal import verdict_panel

    console = Console(highlight=False)
    console.print(verdict_panel(outcome.verdict))
    console.print(f"report   {outcome.folder.report}", markup=False, soft_wrap=True)
    if outcome.release is not None:
        console.print(f"release  {outcome.release}", markup=False, soft_wrap=True)
