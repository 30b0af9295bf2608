"""``proofbox finalize``: the same hyper-parameters fitted on train, validation and test."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ExitCode, UsageError
from runner.plan import Plan, make_plan
from runner.progress import Progress
from runner.recipe_reading.recipe_file import find_recipe
from runner.run_folder import RunFolder, held, open_run


def finalize(run: Path, *, recipe: str | None, device: str | None) -> ExitCode:
    """Fit on all data into ``final/`` of the run folder, and check the saved adapter.

    Its figures on the test partition would be on seen data, so none are computed: its release
    carries the verdict of the gated run and says so. ``recipe`` is needed only where the recipe's
    file has moved since the run.

    Raises:
        UsageError: the recipe is not the one this run was made with.
    """
    from runner.stages import finished_training

    folder = open_run(run)
    progress = Progress(folder.path / "run.log")
    recipe_file = find_recipe(recipe) if recipe else folder.recipe_origin()
    plan = make_plan(recipe_file, runs=folder.path.parent.parent, device=device)
    if plan.run_id != folder.path.name:
        raise UsageError(
            f"{recipe_file}: this recipe, its data, its model or the installed packages are not "
            f"those of run {folder.path.name} (they would make run {plan.run_id})."
        )
    with held(folder):
        if finished_training(folder.final) is None:
            _fit_on_all(plan, folder.final, progress)
    progress.announce(f"final fit: {folder.final.adapter}")
    progress.announce(f"its release: proofbox release {folder.path} --final")
    return ExitCode.PASS


def _fit_on_all(plan: Plan, final: RunFolder, progress: Progress) -> None:
    from datasets import concatenate_datasets

    from runner.data.preparation import partition_dataset
    from runner.stages import prepare, train_on

    data = prepare(plan, progress)
    final.path.mkdir(parents=True, exist_ok=True)
    rows = concatenate_datasets([partition_dataset(data, name) for name in data.partitions])
    progress.announce(f"  fitting on all {len(rows):,} examples")
    train_on(plan, data, rows, final, validate=None, progress=progress)
