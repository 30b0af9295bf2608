"""LoRA on a base model: which modules it adapts, how it starts, how it is read back from disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner.errors import UsageError
from runner.recipe import Lora

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"


def attach_adapter(model: PreTrainedModel, block: Lora, *, seed: int) -> PeftModel:
    """A fresh adapter on ``model``, initialised from ``seed`` alone.

    Raises:
        UsageError: a target matches no linear module; the message lists what there is.
    """
    from peft import get_peft_model
    from transformers import set_seed

    check_targets(model, block.target_modules)
    set_seed(seed)
    return get_peft_model(model, lora_config(block, resolve_targets(model, block.target_modules)))


def resolve_targets(model: PreTrainedModel, targets: str | tuple[str, ...]) -> str | list[str]:
    """Targets as PEFT takes them: a regular expression, or names.

    ``all-linear`` becomes names here: PEFT's own does not see quantized layers as linear.
    """
    if targets != ALL_LINEAR:
        return targets if isinstance(targets, str) else sorted(targets)
    linear = [name for name, module in model.named_modules() if _adaptable(module)]
    return sorted({n.rpartition(".")[2] for n in linear if _matches(n, ALL_LINEAR)})


def lora_config(block: Lora, targets: str | list[str]) -> LoraConfig:
    """PEFT's own configuration for the recipe's block."""
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=block.r,
        lora_alpha=cast(int, block.alpha),  # PEFT takes fractions too
        lora_dropout=block.dropout,
        target_modules=targets,
        bias=block.bias,
        use_rslora=block.variant == "rslora",
        use_dora=block.variant == "dora",
        init_lora_weights="pissa" if block.variant == "pissa" else True,
    )


def check_targets(model: PreTrainedModel, targets: str | tuple[str, ...]) -> None:
    """Every name, or the regular expression, must match a module (peft accepts partial matches)."""
    names = [name for name, module in model.named_modules() if _adaptable(module)]
    leaves = sorted({name.rpartition(".")[2] for name in names} - {"lm_head"})
    if isinstance(targets, str):
        if targets == ALL_LINEAR or any(re.fullmatch(targets, name) for name in names):
            return
        raise UsageError(
            f"lora.target_modules: the regular expression {targets!r} matches no module's full "
            f"name (such as {names[0]!r}). Linear modules end in: {', '.join(leaves)}"
        )
    unmatched = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in names)]
    if unmatched:
        raise UsageError(
            f"lora.target_modules: {', '.join(map(repr, unmatched))} match no linear module of "
            f"this model. There are: {', '.join(leaves)}"
        )


def count_adapter_parameters(model: PreTrainedModel, block: Lora) -> int:
    """Trainable values of an adapter by ``block``: r·(in + out) for every module it adapts."""
    total = 0
    for name, module in model.named_modules():
        if _adaptable(module) and _matches(name, block.target_modules):
            extra = module.out_features if block.variant == "dora" else 0
            total += block.r * (module.in_features + module.out_features) + extra
    return total


def _matches(name: str, targets: str | tuple[str, ...]) -> bool:
    if targets == ALL_LINEAR:
        return not name.endswith("lm_head")
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _adaptable(module: Any) -> bool:  # noqa: ANN401 - any torch module, quantized ones included
    return hasattr(module, "in_features") and hasattr(module, "out_features")


def trainable_tensors(model: PeftModel) -> dict[str, Any]:
    """Name -> parameter of everything the optimizer may change."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapted_modules(model: PeftModel) -> list[str]:
    """Names of the base model's modules that carry an adapter, sorted."""
    marker = ".lora_A."
    names = {n.partition(marker)[0] for n, _ in model.named_parameters() if marker in n}
    return sorted(name.removeprefix("base_model.model.") for name in names)


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The adapter in ``folder`` on ``model``, for evaluation."""
    from peft import PeftModel as Peft

    loaded: PeftModel = Peft.from_pretrained(model, str(folder), is_trainable=False).eval()
    return loaded
