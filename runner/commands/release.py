"""``proofbox release``: pack what may be shipped; refuses without a PASS."""

from __future__ import annotations

from pathlib import Path

from evalsuite.records import Verdict
from runner.commands.recomputation import check_evidence, check_verdict
from runner.commands.run import EXIT_CODES
from runner.digests import digest_of_json
from runner.errors import ExitCode, MachineError, UsageError
from runner.recipe_reading.recipe_file import read_recipe
from runner.run_folder import RunFolder, held, open_finished_run
from runner.stored_json import read_json


def release(
    run: Path,
    *,
    final: bool,
    sign: Path | None = None,
    push: str | None = None,
    public: bool = False,
) -> ExitCode:
    """Judge the stored evidence again and, if every gate holds, pack the release folder.

    Args:
        run: The run folder.
        final: Pack the fit on all data.
        sign: A private key that signs the release's statement.
        push: The Hub repository that the packed release is uploaded to.
        public: Whether that repository may be public.

    Raises:
        UsageError: ``final`` without ``proofbox finalize`` before, or what was judged is a whole
            model.
        MachineError: the run is not finished, or its evidence or verdict does not follow from its
            per-example records.
    """
    from runner.progress import print_error
    from runner.signature import read_private_key
    from runner.stages import release as pack

    folder = open_finished_run(run)
    _check_request(run, folder, final=final, push=push, public=public)
    key = None if sign is None else read_private_key(sign)
    with held(folder):
        verdict = _verdict(folder)
        refusal = _refusal(folder, verdict)
        if refusal is not None:
            print_error(refusal)
            return EXIT_CODES[verdict.verdict] or ExitCode.FAIL
        _check_records(folder)
        path = pack(folder, verdict, final=final, key=key)
        if push is not None and path is not None:
            print(_pushed(path, push, public=public, final=final))  # noqa: T201 - as below
    print(path)  # noqa: T201 - the command's output
    return ExitCode.PASS


def _check_request(
    run: Path, folder: RunFolder, *, final: bool, push: str | None, public: bool
) -> None:
    if public and push is None:
        raise UsageError("--public: says who may see a pushed release; name the place with --push")
    if folder.target.is_file():
        if final:
            raise UsageError(f"{folder.path}: trained elsewhere: there is no final fit of it")
        if read_json(folder.target)["kind"] == "model":
            raise UsageError(
                f"{folder.path}: a whole model was judged here. Only adapters are packed; hand on "
                "the model with this folder's evidence.json, verdict.json and report.html."
            )
    elif final and not folder.final.training.is_file():
        raise UsageError(f"{folder.path}: no final fit yet. Run: proofbox finalize {run}")


def _pushed(release: Path, repository: str, *, public: bool, final: bool) -> str:
    from runner.hub_upload import push_release

    lock = read_json(release / "lock.json")
    fit = ", fit on all data" if final else ""
    message = f"{lock['recipe']['name']} {lock['run_id']}: PASS{fit}"
    return push_release(release, repository, public=public, message=message)


def _verdict(folder: RunFolder) -> Verdict:
    """The stored verdict, given again from the stored evidence."""
    from evalsuite.gates import judge
    from evalsuite.record_files import read_evidence, read_verdict

    stored = read_verdict(folder.verdict)
    return judge([result.gate for result in stored.gates], read_evidence(folder.evidence))


def _check_records(folder: RunFolder) -> None:
    """What is packed will verify: evidence and verdict follow from the per-example records.

    They do not where a run was stopped between weighing and judging, or a record was changed.
    """
    for fault in (*check_evidence(folder.path), *check_verdict(folder.path)):
        raise MachineError(f"{folder.path / fault.file}: {fault.reason}. Run the recipe again.")


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
