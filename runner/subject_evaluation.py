"""Whether a stored evaluation still answers for what would be evaluated now."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from runner.benchmarks.lm_eval_source import lm_eval_identity
from runner.data.extra_sets import extra_sets
from runner.data.preparation import PreparedData
from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError
from runner.metric_files import metric_identities
from runner.plan import Plan
from runner.stored_json import read_json, write_json
from runner.versions import MEASURING, code_digest

SEAL = "sealed.json"


def evaluated_names(plan: Plan) -> list[str]:
    """The partitions, sets of rows and benchmarks that an evaluation reads."""
    evaluation = plan.recipe.evaluation
    tasks = (task.data for task in evaluation.generation)
    sets = (extra.name for extra in extra_sets(plan.recipe))
    benchmarks = (found.name for found in plan.benchmarks)
    return sorted({*evaluation.loss, *tasks, *sets, *benchmarks})


def evaluation_inputs(
    plan: Plan, data: PreparedData, adapter_digest: str | None, *, code_execution: str | None
) -> str:
    """Digest of everything that an evaluation of one subject depends on.

    ``adapter_digest`` is None for the base model; ``code_execution`` is the backend with its
    version and limits, None where no code is run.
    """
    recipe = plan.recipe
    evaluation: dict[str, Any] = recipe.evaluation.model_dump(mode="json", exclude={"base"})
    return digest_of_json(
        {
            "model": plan.model.digest,
            "adapter": adapter_digest,
            "loading": recipe.model.model_dump(mode="json", exclude={"base", "revision"}),
            # The vocabulary of the base has them too.
            "tokens": (recipe.lora.trained_tokens, recipe.lora.special_tokens),
            "quantization": recipe.quantization.model_dump(mode="json"),
            "template": data.template_digest,
            "system": recipe.template.system,
            "thinking": data.thinking,
            "answer_marker": data.answer_marker,
            "partitions": {name: data.part(name).sha256 for name in evaluated_names(plan)},
            "evaluation": evaluation,
            "metrics": {
                task.name: metric_identities(task.metrics, plan.base_folder)
                for task in recipe.evaluation.generation
            },
            "benchmarks": {found.name: found.digest for found in plan.benchmarks},
            "lm_eval": lm_eval_identity(recipe, plan.base_folder),
            "code_execution": code_execution,
            # The adapter's process also proves that it sits on the base that was evaluated.
            "beside_base": adapter_digest is not None and recipe.evaluation.base,
            "seed": recipe.seed,
            "device": plan.device,
            "versions": {**plan.versions, "python": platform.python_version()},
            "code": code_digest(MEASURING),
        }
    )


def seal_evaluation(folder: Path, inputs: str) -> None:
    """Mark an evaluation as finished for ``inputs``, with the digests of its files."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != SEAL)
    write_json(folder / SEAL, {"inputs": inputs, "files": {p.name: file_digest(p) for p in files}})


def is_sealed_for(folder: Path, inputs: str) -> bool:
    """True if ``folder`` holds a finished evaluation of ``inputs``, as it was written."""
    return is_sealed(folder) and bool(read_json(folder / SEAL)["inputs"] == inputs)


def is_sealed(folder: Path) -> bool:
    """True if ``folder`` holds a finished evaluation and nothing else, every file as written."""
    if not (folder / SEAL).is_file():
        return False
    try:
        seal = read_json(folder / SEAL)
    except MachineError:
        return False
    found = {path.name for path in folder.iterdir()}
    return found == {SEAL, *seal["files"]} and all(
        file_digest(folder / name) == digest for name, digest in seal["files"].items()
    )
