"""``proofbox release``: pack what may be shipped; refuses without a PASS."""

from __future__ import annotations

from pathlib import Path

from evalsuite.records import Verdict
from runner.commands.run import EXIT_CODES
from runner.digests import digest_of_json
from runner.errors import ExitCode, UsageError
from runner.recipe_reading.recipe_file import read_recipe
from runner.run_folder import RunFolder, held, open_finished_run
from runner.stored_json import read_json


def release(run: Path, *, final: bool) -> ExitCode:
    """Judge the stored evidence again and, if every gate holds, pack the release folder.

    Raises:
        UsageError: the run is not finished, or ``final`` without ``proofbox finalize`` before.
    """
    from runner.progress import print_error
    from runner.stages import release as pack

    folder = open_finished_run(run)
    if final and not folder.final.training.is_file():
        raise UsageError(f"{folder.path}: no final fit yet. Run: proofbox finalize {run}")
    with held(folder):
        verdict = _verdict(folder)
        refusal = _refusal(folder, verdict)
        if refusal is not None:
            print_error(refusal)
            return EXIT_CODES[verdict.verdict] or ExitCode.FAIL
        path = pack(folder, verdict, final=final)
    print(path)  # noqa: T201 - the command's output
    return ExitCode.PASS


def _verdict(folder: RunFolder) -> Verdict:
    """The stored verdict, given again from the stored evidence."""
    from evalsuite.gates import judge
    from evalsuite.record_files import read_evidence, read_verdict

    stored = read_verdict(folder.verdict)
    return judge([result.gate for result in stored.gates], read_evidence(folder.evidence))


def _refusal(folder: RunFolder, verdict: Verdict) -> str | None:
    from runner.stages import gates_of

    if verdict.verdict != "PASS":
        return f"{folder.path}: not released. The verdict is {verdict.verdict}: {verdict.reason}"
    recipe = read_recipe(folder.recipe)
    if digest_of_json(recipe.model_dump(mode="json")) != read_json(folder.lock)["recipe_digest"]:
        return (
            f"{folder.path}: not released. {folder.recipe.name} is not the recipe of this run's "
            "lock. Run the recipe again."
        )
    own = gates_of(recipe.gates)
    if tuple(result.gate for result in verdict.gates) != own:
        return (
            f"{folder.path}: not released. The stored verdict was given by other gates than the "
            f"run's recipe declares. Judge it by its own: proofbox gate {folder.path}"
        )
    return None
