"""``proofbox run``: a recipe from its text to a verdict and a release."""

from __future__ import annotations

from pathlib import Path

from runner.commands.self_test import self_test_command
from runner.errors import ExitCode, UsageError
from runner.pipeline import run_recipe
from runner.progress import Progress
from runner.recipe_reading.recipe_file import find_recipe
from runner.stages import Outcome
from runner.training.devices import Devices, Strategy

EXIT_CODES = {
    "PASS": ExitCode.PASS,
    "FAIL": ExitCode.FAIL,
    "INCONCLUSIVE": ExitCode.INCONCLUSIVE,
    "ERROR": ExitCode.ENVIRONMENT,
}


def run(
    recipe: str,
    *,
    runs: Path,
    device: str | None,
    restart: bool,
    previous: Path | None = None,
    devices: int = 1,
    strategy: Strategy = "ddp",
    self_test: bool = False,
) -> ExitCode:
    """Run a recipe and print its verdict with the paths of report and release.

    A recipe without gates claims nothing: it ends with exit code 0 and no release. ``self_test``:
    only test its training.
    """
    if self_test:
        _check_alone(restart=restart, previous=previous, devices=devices)
        return self_test_command(recipe, device=device)
    progress = Progress()
    path = find_recipe(recipe)
    outcome = run_recipe(
        path,
        runs=runs,
        device=device,
        restart=restart,
        progress=progress,
        previous=previous,
        devices=Devices(count=devices, strategy=strategy),
    )
    show_outcome(outcome)
    if not outcome.verdict.gates:
        return ExitCode.PASS
    return EXIT_CODES[outcome.verdict.verdict]


def _check_alone(*, restart: bool, previous: Path | None, devices: int) -> None:
    """Refuse options that a self-test would not heed."""
    given = {"--restart": restart, "--previous": previous is not None, "--devices": devices > 1}
    named = ", ".join(name for name, is_given in given.items() if is_given)
    if named:
        raise UsageError(
            f"--self-test leaves no run behind and computes on one device: leave out {named}"
        )


def show_outcome(outcome: Outcome) -> None:
    """Print the gates, the verdict and where things are."""
    from rich.console import Console

    from reports.terminal import verdict_panel

    console = Console(highlight=False)
    console.print(verdict_panel(outcome.verdict))
    console.print(f"report   {outcome.folder.report}", markup=False, soft_wrap=True)
    if outcome.release is not None:
        console.print(f"release  {outcome.release}", markup=False, soft_wrap=True)
