"""Whether a stored evaluation still answers for what would be evaluated now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.data.preparation import PreparedData
from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError
from runner.plan import Plan
from runner.stored_json import read_json, write_json
from runner.versions import MEASURING, code_digest

SEAL = "sealed.json"


def evaluation_inputs(plan: Plan, data: PreparedData, adapter_digest: str | None) -> str:
    """Digest of everything that an evaluation of one subject depends on."""
    recipe = plan.recipe
    used = {*recipe.evaluation.loss, *(task.data for task in recipe.evaluation.generation)}
    evaluation: dict[str, Any] = recipe.evaluation.model_dump(mode="json", exclude={"base"})
    return digest_of_json(
        {
            "model": plan.model.digest,
            "adapter": adapter_digest,
            "loading": recipe.model.model_dump(mode="json", exclude={"base", "revision"}),
            "quantization": recipe.quantization.model_dump(mode="json"),
            "template": data.template_digest,
            "system": recipe.template.system,
            "partitions": {name: data.partitions[name].digest for name in sorted(used)},
            "evaluation": evaluation,
            "seed": recipe.seed,
            "device": plan.device,
            "versions": plan.versions,
            "code": code_digest(MEASURING),
        }
    )


def seal_evaluation(folder: Path, inputs: str) -> None:
    """Mark an evaluation as finished for ``inputs``, with the digests of its files."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != SEAL)
    write_json(folder / SEAL, {"inputs": inputs, "files": {p.name: file_digest(p) for p in files}})


def is_sealed_for(folder: Path, inputs: str) -> bool:
    """True if ``folder`` holds a finished evaluation of ``inputs``, as it was written."""
    if not (folder / SEAL).is_file():
        return False
    try:
        seal = read_json(folder / SEAL)
    except MachineError:
        return False
    if seal["inputs"] != inputs:
        return False
    return all(
        (folder / name).is_file() and file_digest(folder / name) == digest
        for name, digest in seal["files"].items()
    )
