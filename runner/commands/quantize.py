"""``proofbox quantize``: make the quantized base of a recipe, and nothing else."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from runner.cache import copy_folder
from runner.errors import ExitCode, UsageError
from runner.plan import Plan, make_plan
from runner.progress import Progress
from runner.quantizing.quantized_base import needs_quantizing, quantized_base
from runner.recipe_reading.recipe_file import find_recipe


def quantize(recipe: str, *, out: Path | None, device: str | None) -> ExitCode:
    """Prepare the data and quantize the recipe's base; print where the checkpoint is.

    ``out`` gets a copy. Without one it stays in the cache, where runs find it.

    Raises:
        UsageError: the recipe quantizes nothing, or ``out`` is there already.
    """
    from runner import stages
    from runner.base_model.loaded_model import quiet_libraries

    quiet_libraries()
    if out is not None and out.exists():
        raise UsageError(f"--out {out}: this is there already. Name a folder that is not.")
    progress = Progress()
    with TemporaryDirectory(prefix="proofbox-quantize-") as runs:
        plan = make_plan(find_recipe(recipe), runs=Path(runs), device=device)
        _check_asked(plan)
        base = quantized_base(plan, stages.prepared(plan, progress), progress)
    place = Path(base.source.place)
    if out is not None:
        copy_folder(place, out)
        place = out
    print(f"{place}  digest {base.record.digest}")  # noqa: T201 - the command's output
    return ExitCode.PASS


def _check_asked(plan: Plan) -> None:
    from runner.base_model.loaded_model import check_base

    block = plan.recipe.quantization
    if not needs_quantizing(block, plan.model):
        method = plan.model.quantization
        why = f"is quantized already ({method})" if method else "is not to be quantized with gptq"
        raise UsageError(
            f"{plan.recipe_file}: the base model {plan.model.name} {why}: there is nothing to "
            "make. Write `quantization: {method: gptq, bits: 4}` for a full-precision base."
        )
    check_base(plan.recipe, plan.model, plan.device)
