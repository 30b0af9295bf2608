"""The folder of an evaluation by ``proofbox eval``: made ready, and given what is judged."""

from __future__ import annotations

import shutil
from dataclasses import replace

from runner.base_model.base_weights import weights_digest
from runner.data.preparation import PreparedData
from runner.errors import UsageError
from runner.judgement import check_ledger, check_previous
from runner.plan import Plan, check_writable, judges_whole_model
from runner.progress import Progress
from runner.run_folder import remove
from runner.stages import (
    RUN_BYTES,
    check_code_execution,
    recipe_changed,
    save_tokenizer,
)
from runner.stored_json import read_json, sync_folder, write_json
from runner.target import ADAPTER_FILES, FoundTarget, Target
from runner.training.adapter_files import folder_digest

TOLD = 12  # characters of a digest that a message shows


def start_target(plan: Plan, progress: Progress) -> None:
    """Refuse what cannot succeed, make the folder ready, and say what will happen."""
    from runner.base_model.loaded_model import check_base, quiet_libraries

    quiet_libraries()
    found = _found(plan)
    check_base(plan.recipe, plan.model, plan.device)
    _check_divergence(plan)
    code_runs_in = check_code_execution(plan)
    check_writable(plan.folder.path, needed_bytes=RUN_BYTES)
    plan.folder.sweep()
    progress.log = plan.folder.path / "run.log"
    if recipe_changed(plan):
        if plan.folder.release.is_dir():
            progress.announce("the recipe's evaluation or gates changed: the release is withdrawn")
        plan.folder.withdraw(verdict=True)
    progress.announce(f"{plan.recipe.name}, {plan.run_id}: {plan.folder.path}")
    target = found.target
    progress.announce(
        f"  judging the {target.kind} {target.name} ({target.parameters:,} parameters), trained "
        f"elsewhere, on {plan.device}"
    )
    if code_runs_in is not None:
        progress.announce(f"  answers' code runs in {code_runs_in}")
    for note in target.notes:
        progress.announce(f"  note: {note}")
    check_ledger(plan.recipe_file, plan.folder.path.parent.parent, progress.announce)
    check_previous(plan, None)


def _found(plan: Plan) -> FoundTarget:
    if plan.target is None:
        raise ValueError("this plan trains an adapter of its own")
    return plan.target


def _check_divergence(plan: Plan) -> None:
    """KL(base ‖ adapter) is computed by switching an adapter off: a whole model has none."""
    asked = [extra.name for extra in plan.recipe.evaluation.held_out if extra.divergence]
    if asked and judges_whole_model(plan):
        raise UsageError(
            f"evaluation.held_out: {', '.join(asked)}: divergence is measured by switching the "
            "adapter off, and a whole model has none to switch off. Judge it by a recipe without."
        )


def take_in_target(plan: Plan, data: PreparedData, *, other_base: bool = False) -> Target:
    """Copy an adapter into the folder, with the tokenizer it is judged with; record both.

    A whole model stays where it is: its digest is recorded.

    Raises:
        UsageError: the adapter was trained on other base weights, and ``other_base`` is not given.
    """
    found, folder = _found(plan), plan.folder
    target = found.target
    if target.kind == "adapter":
        target = _on_these_weights(target, plan, other_base=other_base)
        _copy_adapter(found, plan)
        _save_tokenizer(plan, data)
        target = replace(target, tokenizer_digest=folder_digest(folder.tokenizer))
    write_json(folder.target, target.as_json())
    return target


def _on_these_weights(target: Target, plan: Plan, *, other_base: bool) -> Target:
    """Refuse an adapter that is bound to other weights, or note that it was forced on these."""
    own = weights_digest(plan.model, plan.recipe.quantization)
    if target.base_weights in (None, own):
        return target
    told = (
        f"the adapter {target.name} was trained on other base weights "
        f"({str(target.base_weights)[:TOLD]}…) than the recipe's {plan.model.name} ({own[:TOLD]}…)"
    )
    if not other_base:
        raise UsageError(
            f"{told}. On these it is another artefact than the one that was trained. Judge it by a "
            "recipe with its own base model and quantization, or say --other-base."
        )
    note = f"{told}, and is judged on them by --other-base"
    lock = read_json(plan.folder.lock)
    write_json(plan.folder.lock, {**lock, "decisions": [*lock["decisions"], note]})
    return replace(target, notes=(*target.notes, note))


def _copy_adapter(found: FoundTarget, plan: Plan) -> None:
    adapter = plan.folder.adapter
    if adapter.is_dir() and folder_digest(adapter) == found.target.digest:
        return
    temporary = adapter.with_name(f".{adapter.name}.tmp")
    remove(temporary)
    temporary.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(found.place / name, temporary / name)
    remove(adapter)
    temporary.rename(adapter)
    sync_folder(adapter.parent)


def _save_tokenizer(plan: Plan, data: PreparedData) -> None:
    from runner.base_model.loaded_model import load_tokenizer

    save_tokenizer(load_tokenizer(plan.recipe, plan.model), data, plan.folder.tokenizer)
