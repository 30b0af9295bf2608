"""What will be run, resolved: digests, revisions, versions, hardware, run folder."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.base_model.loaded_model import apply_threads, choose_device
from runner.base_model.model_source import ModelSource, find_model
from runner.base_model.quantization import trainable_kernel
from runner.benchmarks.named_benchmark import NamedBenchmark, resolve_benchmarks
from runner.data.extra_sets import resolve_sets
from runner.data.formats.row_formats import plugin_identity
from runner.data.reading.sources import SourceRecord, pinned_dataset, resolve_source
from runner.digests import digest_of_json, file_digest
from runner.errors import DataError, MachineError
from runner.quantizing.quantized_base import needs_quantizing, with_recorded_base
from runner.quickstart_data import code_execution_block
from runner.recipe import Recipe
from runner.recipe_reading.recipe_file import read_recipe
from runner.run_folder import RunFolder
from runner.stored_json import read_json, write_bytes, write_json
from runner.target import FoundTarget, find_target, told_differences
from runner.training.optimizers import choose_optimizer
from runner.versions import LEARNING, code_digest, installed_versions

# What the trained adapter depends on. Evaluation and gates may change without training again;
# hardware never changes what is computed beyond rounding.
LEARNED = ("seed", "dataset", "template", "model", "quantization", "lora", "training")
RUN_ID_LENGTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe with everything that it leaves open decided.

    Two plans with the same ``run_id`` train the same adapter, or judge the same ``target``, which
    was trained elsewhere. ``sets`` are the sources of the sets of rows beside the dataset.
    """

    recipe: Recipe
    recipe_file: Path
    source: SourceRecord
    model: ModelSource
    device: str
    threads: int
    versions: dict[str, str]
    run_id: str
    folder: RunFolder
    target: FoundTarget | None = None
    sets: Mapping[str, SourceRecord] = field(default_factory=dict)
    benchmarks: tuple[NamedBenchmark, ...] = ()

    @property
    def base_folder(self) -> Path:
        """Where the recipe's relative paths start."""
        return self.recipe_file.parent


@dataclass(frozen=True, slots=True)
class Pinned:
    """Hub revisions that were resolved before, so that a branch that moves changes nothing."""

    data: tuple[str | None, ...] | None = None  # a commit for each source, None for files
    model: str | None = None


def make_plan(
    recipe_file: Path, *, runs: Path, device: str | None = None, pinned: Pinned = Pinned()
) -> Plan:
    """Read and resolve a recipe.

    Args:
        recipe_file: The recipe.
        runs: Folder of all runs.
        device: Overrides the recipe's ``hardware.device``.
        pinned: Commits that stand for the recipe's own revisions.

    Raises:
        RecipeError: every fault of the recipe.
        MachineError: its data or model cannot be found, or the device is not there.
    """
    recipe = read_recipe(recipe_file, in_place=True)
    dataset = recipe.dataset
    if pinned.data is not None:
        dataset = pinned_dataset(dataset, pinned.data)
    source = resolve_source(dataset, recipe_file.parent)
    revision = pinned.model or recipe.model.revision
    model = find_model(recipe.model.base, revision, folder=recipe_file.parent)
    versions = installed_versions()
    learned = recipe.model_dump(mode="json", include=set(LEARNED))
    run_id = digest_of_json(
        {
            "learned": learned,
            "data": source.digest,
            "model": model.digest,
            "chat_template": _template_file_digest(recipe, recipe_file.parent),
            "versions": versions,
            "code": code_digest(LEARNING),
            "plugin": plugin_identity(dataset.format),
        }
    )[:RUN_ID_LENGTH]
    return Plan(
        recipe=recipe,
        recipe_file=recipe_file,
        source=source,
        model=model,
        device=choose_device(device or recipe.hardware.device),
        threads=apply_threads(recipe.hardware.threads),
        versions=versions,
        run_id=run_id,
        folder=RunFolder(runs / recipe.name / run_id),
        sets=resolve_sets(recipe, recipe_file.parent),
        benchmarks=resolve_benchmarks(recipe, recipe_file.parent),
    )


def plan_for_target(plan: Plan, found: FoundTarget) -> Plan:
    """``plan``, but to judge ``found`` instead of an adapter that the recipe trains."""
    digest = digest_of_json({"run": plan.run_id, "target": found.target.digest})
    run_id = f"eval-{digest[:RUN_ID_LENGTH]}"
    notes = (*found.target.notes, *told_differences(found.target, plan.recipe.model.base))
    return replace(
        plan,
        run_id=run_id,
        folder=RunFolder(plan.folder.path.with_name(run_id)),
        target=replace(found, target=replace(found.target, notes=notes)),
    )


def plan_of_run(
    recipe_file: Path, *, runs: Path, device: str, run_id: str, target: str | None = None
) -> Plan:
    """The plan of a run that is going on, made again in a fresh process.

    The Hub's commits are those that the run resolved.

    Raises:
        DataError: it is another plan by now.
    """
    name = read_recipe(recipe_file).name
    lock = read_json(runs / name / run_id / "lock.json")
    pinned = Pinned(data=tuple(lock["data"]["revisions"]), model=lock["model"]["revision"])
    plan = make_plan(recipe_file, runs=runs, device=device, pinned=pinned)
    if target is not None:
        plan = plan_for_target(plan, find_target(target))
    if plan.run_id != run_id:
        raise DataError(
            f"{recipe_file}: the recipe, its data, its base model or the installed packages "
            "changed while the run was going on. Run it again."
        )
    return with_recorded_base(plan)


def judges_whole_model(plan: Plan) -> bool:
    """Whether a model itself is judged, and not an adapter on the recipe's base model."""
    return plan.target is not None and plan.target.target.kind == "model"


def _template_file_digest(recipe: Recipe, folder: Path) -> str | None:
    """Digest of the recipe's own chat template; those of tokenizer and package count elsewhere."""
    path = folder / recipe.template.chat
    return file_digest(path) if path.suffix == ".jinja" and path.is_file() else None


def decisions_of(plan: Plan) -> list[str]:
    """What the recipe leaves to the machine, and what was chosen here."""
    recipe, chosen = plan.recipe, list(plan.source.notes)
    if recipe.hardware.device == "auto":
        chosen.append(f"hardware.device: auto is {plan.device}")
    if recipe.hardware.threads == "auto":
        chosen.append(f"hardware.threads: auto is {plan.threads}")
    if recipe.model.dtype == "auto":
        auto = "float32" if plan.device == "cpu" else "the checkpoint's own"
        chosen.append(f"model.dtype: auto is {auto}")
    if recipe.quantization.method == "gptq" and recipe.quantization.kernel == "auto":
        chosen.append(f"quantization.kernel: auto is {trainable_kernel(plan.device)}")
    if needs_quantizing(recipe.quantization, plan.model):
        chosen.append(
            f"quantization: {plan.model.name} is not quantized: the run makes it a GPTQ checkpoint"
        )
    if plan.target is not None:
        return [*chosen, *plan.target.target.notes]
    execution = code_execution_block(recipe, plan.base_folder)
    if execution is not None and recipe.evaluation.code_execution is None:
        chosen.append(
            "evaluation.code_execution: null is subprocess (unsafe: limits only), since the data "
            "are the quickstart's own"
        )
    _, substituted = choose_optimizer(recipe.training.optimizer, plan.device)
    return [*chosen, *([substituted] if substituted else [])]


def write_lock(
    plan: Plan, partitions: Mapping[str, str], *, decisions: Sequence[str] = ()
) -> dict[str, Any]:
    """Write ``lock.json`` and the recipe as given into the run folder, and return the lock.

    ``partitions`` are the digests of membership by partition, which every process that loads the
    data compares; ``decisions`` are those that were made about the data.
    """
    lock = {**lock_of(plan), "partitions": dict(partitions)}
    lock["decisions"] = [*decisions, *lock["decisions"]]
    write_json(plan.folder.lock, lock)
    write_json(plan.folder.path / "origin.json", {"recipe_file": str(plan.recipe_file.resolve())})
    given, other = "recipe.yaml", "recipe.json"
    if plan.recipe_file.suffix == ".json":
        given, other = other, given
    write_bytes(plan.folder.path / given, plan.recipe_file.read_bytes())
    (plan.folder.path / other).unlink(missing_ok=True)
    return lock


def lock_of(plan: Plan) -> dict[str, Any]:
    """Everything that made the run what it is; no path of this machine is in it."""
    recipe = plan.recipe.model_dump(mode="json")
    judged = {} if plan.target is None else {"target": plan.target.target.as_json()}
    return {
        **judged,
        "proofbox": plan.versions.get("proofbox", "unknown"),
        "recipe": recipe,
        "recipe_digest": digest_of_json(recipe),
        "run_id": plan.run_id,
        "code_digest": code_digest(LEARNING),
        "data": plan.source.as_json(),
        "sets": {name: source.as_json() for name, source in plan.sets.items()},
        "benchmarks": [benchmark.as_json() for benchmark in plan.benchmarks],
        "model": {
            "name": plan.model.name,
            "digest": plan.model.digest,
            "revision": plan.model.revision,
            "parameters": plan.model.parameters,
            "architecture": plan.model.architecture,
        },
        "versions": plan.versions,
        "hardware": {
            "device": plan.device,
            "cpu_count": os.cpu_count(),
            "threads": plan.threads,
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "seed": plan.recipe.seed,
        "decisions": decisions_of(plan),
    }


def check_writable(folder: Path, needed_bytes: int) -> None:
    """Refuse early, before any work, where a run could not be stored.

    Raises:
        MachineError: the folder cannot be made or written, or the disk is too full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise MachineError(
            f"{folder}: the run folder cannot be written ({error.strerror}). "
            "Choose another place with --runs."
        ) from None
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise MachineError(
            f"{folder}: the disk has {free / 1e9:.2f} GB free and this run needs about "
            f"{needed_bytes / 1e9:.2f} GB for its checkpoints. Free some, or choose another place "
            "with --runs."
        )
