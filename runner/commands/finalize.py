"""``proofbox finalize``: the same hyper-parameters fitted on train, validation and test."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ExitCode, UsageError
from runner.plan import Plan, make_plan
from runner.progress import Progress
from runner.recipe_reading.recipe_file import find_recipe
from runner.run_folder import RunFolder, held, open_finished_run, remove
from runner.training.devices import Devices, Strategy, check_devices


def finalize(
    run: Path,
    *,
    recipe: str | None,
    device: str | None,
    devices: int = 1,
    strategy: Strategy = "ddp",
) -> ExitCode:
    """Fit on all data into ``final/`` of the run folder, and check the saved adapter.

    Its figures on the test partition would be on seen data, so none are computed: its release
    carries the verdict of the gated run and says so. ``recipe`` is needed only where the recipe's
    file has moved since the run.

    Raises:
        UsageError: the recipe is not the one this run was made with.
    """
    from evalsuite.record_files import read_verdict
    from runner.base_model.loaded_model import quiet_libraries
    from runner.stages import finished_training

    folder = open_finished_run(run)
    if folder.target.is_file():
        raise UsageError(
            f"{folder.path}: judged by proofbox eval, and trained elsewhere: only who trained it "
            "can fit it again on all data"
        )
    quiet_libraries()
    progress = Progress(folder.path / "run.log")
    recipe_file = find_recipe(recipe) if recipe else folder.recipe_origin()
    plan = make_plan(recipe_file, runs=folder.path.parent.parent, device=device)
    if plan.folder.path.resolve() != folder.path.resolve():
        raise UsageError(
            f"{recipe_file}: this recipe, its data, its model or the installed packages are not "
            f"those of run {folder.path.name} (they would make {plan.folder.path})."
        )
    shared = Devices(count=devices, strategy=strategy)
    check_devices(shared, plan.recipe, plan.device)
    verdict = read_verdict(folder.verdict).verdict
    if verdict != "PASS":
        progress.announce(f"the verdict of this run is {verdict}: the final fit is not released")
    with held(folder):
        plan = _on_quantized_base(plan, progress)
        if finished_training(folder.final) is None:
            _fit_on_all(plan, folder.final, progress, shared)
        if not folder.final.reload.is_file():
            _check_saved(plan, folder.final)
    progress.announce(f"final fit: {folder.final.adapter}")
    progress.announce(f"its release: proofbox release {folder.path} --final")
    return ExitCode.PASS


def _on_quantized_base(plan: Plan, progress: Progress) -> Plan:
    """``plan`` with the base that the gated run made of its own, made again where it is gone."""
    from runner.quantizing.quantized_base import needs_quantizing
    from runner.stages import prepared, quantize

    if not needs_quantizing(plan.recipe.quantization, plan.model):
        return plan
    return quantize(plan, prepared(plan, progress), progress)


def _fit_on_all(plan: Plan, final: RunFolder, progress: Progress, devices: Devices) -> None:
    from runner.stages import check_partitions, prepared, train_all_rows, train_in_ranks

    data = prepared(plan, progress)
    check_partitions(plan.folder, data)
    if data.leaks.dropped:
        progress.announce(
            f"  {data.leaks.dropped:,} train rows that a held-out row repeats stay out here too"
        )
    if any(source.weight != 1 for source in plan.recipe.dataset.sources):
        progress.announce("  weights apply to the rows of train; held-out rows are used once")
    remove(final.reload)
    final.path.mkdir(parents=True, exist_ok=True)
    if devices.count > 1:
        train_in_ranks(plan, devices, final)
    else:
        train_all_rows(plan, data, progress)


def _check_saved(plan: Plan, final: RunFolder) -> None:
    """The adapter on disk, on a base model loaded anew, gives the logits of the trained one."""
    from runner.base_model.loaded_model import load_model
    from runner.training.adapter_probe import (
        check_reloaded,
        probe_logits,
        probe_rows,
        record_reload,
    )
    from runner.training.lora import load_adapter
    from runner.training.train_adapter import read_training

    loaded = load_model(plan.recipe, plan.model, device=plan.device)
    rows = probe_rows(final.probe)
    base = probe_logits(loaded.model, rows)
    adapter = probe_logits(load_adapter(loaded.model, final.adapter), rows)
    training = read_training(final)
    dtype = str(loaded.dtype).removeprefix("torch.")
    worst = check_reloaded(base, adapter, final.probe, (dtype, training.dtype))
    record_reload(final.reload, training.adapter_digest, worst)
