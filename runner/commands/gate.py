"""``proofbox gate``: judge a run's stored evidence by its recipe's gates."""

from __future__ import annotations

from pathlib import Path

from runner.commands.run import EXIT_CODES
from runner.errors import ExitCode
from runner.progress import print_error
from runner.recipe_reading.recipe_file import find_recipe, read_recipe
from runner.run_folder import RunFolder, held, open_finished_run
from runner.stored_json import read_json


def gate(run: Path, *, recipe: str | None) -> ExitCode:
    """Judge, print and store the verdict; the exit code is the verdict's.

    ``recipe`` names another recipe whose gates judge instead. Its verdict is stored too, and
    ``proofbox release`` will then refuse, unless the gates are the run's own.
    """
    from rich.console import Console

    from evalsuite.record_files import read_evidence, write_verdict
    from reports.terminal import verdict_panel
    from runner.judgement import judged
    from runner.stages import gates_of

    folder = open_finished_run(run)
    source = find_recipe(recipe) if recipe else folder.recipe
    gates = gates_of(read_recipe(source).gates)
    with held(folder):
        verdict = judged(
            gates,
            read_evidence(folder.evidence),
            folder,
            _origin(folder),
            announce=print_error,
        )
        write_verdict(verdict, folder.verdict)
        if verdict.verdict != "PASS":
            folder.withdraw()
    Console(highlight=False).print(verdict_panel(verdict))
    if recipe:
        print_error(
            f"judged by the gates of {source}; this verdict is stored, and nothing is released "
            f"under it. By the run's own gates: proofbox gate {folder.path}"
        )
    return EXIT_CODES[verdict.verdict]


def _origin(folder: RunFolder) -> Path | None:
    """Where the recipe lies that the run was made with; None where it has gone."""
    origin = Path(read_json(folder.path / "origin.json")["recipe_file"])
    return origin if origin.is_file() else None
