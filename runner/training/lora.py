"""The adapter on a base model: attached as the recipe's ``lora`` block says, or read from disk."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner.errors import DataError
from runner.recipe import Lora
from runner.training.lora_targets import ALL_LINEAR, LoraTargets, find_targets
from runner.training.whole_modules import widen_whole_modules

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

_PREFIX = "base_model.model."


def attach_adapter(
    model: PreTrainedModel, block: Lora, *, seed: int, token_ids: Sequence[int] = ()
) -> PeftModel:
    """A fresh adapter on ``model``, initialised from ``seed`` alone.

    Args:
        model: The base model; it is changed.
        block: The recipe's.
        seed: Of the adapter's random matrices.
        token_ids: Ids of ``block.trained_tokens``, in their order.

    Raises:
        UsageError: the block does not fit the model; the message lists what there is.
        DataError: PEFT put an adapter on other modules than the block means.
    """
    from peft import get_peft_model
    from transformers import set_seed

    if len(token_ids) != len(block.trained_tokens):
        raise ValueError("every trained token has an id")
    targets = find_targets(model, block)
    set_seed(seed)
    adapted = get_peft_model(model, lora_config(block, targets, token_ids))
    if set(adapted_modules(adapted)) != set(targets.low_rank):
        differing = sorted(set(adapted_modules(adapted)) ^ set(targets.low_rank))
        raise DataError(f"PEFT adapted other modules than the recipe means: {differing[0]}")
    widen_whole_modules(adapted)
    # PEFT would look the base up on the Hub and save embeddings whole where tokens were added.
    cast(Any, adapted).save_pretrained = partial(
        adapted.save_pretrained, save_embedding_layers=False
    )
    return adapted


def lora_config(block: Lora, targets: LoraTargets, token_ids: Sequence[int]) -> LoraConfig:
    """PEFT's own configuration for the recipe's block."""
    from peft import LoraConfig, TaskType

    excluded = block.exclude_modules
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=block.r,
        lora_alpha=cast(int, block.alpha),  # PEFT takes fractions too
        lora_dropout=block.dropout,
        target_modules=_target_modules(block, targets),
        exclude_modules=(excluded if isinstance(excluded, str) else sorted(excluded)) or None,
        rank_pattern=dict(block.rank_pattern),
        alpha_pattern=dict(block.alpha_pattern),
        modules_to_save=list(targets.whole) or None,
        trainable_token_indices={name: list(token_ids) for name in targets.token_modules} or None,
        ensure_weight_tying=targets.tied_whole,
        bias=block.bias,
        use_rslora=block.variant == "rslora",
        use_dora=block.variant == "dora",
        init_lora_weights="pissa" if block.variant == "pissa" else True,
    )


def _target_modules(block: Lora, targets: LoraTargets) -> str | list[str]:
    """As PEFT takes them. Its own ``all-linear`` does not see quantized layers as linear."""
    if block.target_modules != ALL_LINEAR:
        wanted = block.target_modules
        return wanted if isinstance(wanted, str) else sorted(wanted)
    return sorted({name.rpartition(".")[2] for name in targets.low_rank})


def count_adapter_parameters(model: PreTrainedModel, block: Lora) -> int:
    """Trainable values of an adapter by ``block`` on ``model``, which may be a skeleton.

    Counted by PEFT on modules without weights, so that every variant counts as it is.

    Raises:
        UsageError: as ``attach_adapter``.
    """
    import warnings

    import torch
    from peft import get_peft_model

    targets = find_targets(model, block)
    config = lora_config(block, targets, range(len(block.trained_tokens)))
    config.init_lora_weights = True  # singular vectors need weights; their number does not
    skeleton = copy.deepcopy(model).to(cast(Any, "meta"))
    with warnings.catch_warnings(action="ignore"), torch.device("meta"):
        adapted = get_peft_model(skeleton, config)
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def trainable_tensors(model: PeftModel) -> dict[str, Any]:
    """Name -> parameter of everything the optimizer may change."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapted_modules(model: PeftModel) -> list[str]:
    """Paths of the base model's modules that carry a low-rank adapter, sorted."""
    marker = ".lora_A."
    names = {n.partition(marker)[0] for n, _ in model.named_parameters() if marker in n}
    return sorted(name.removeprefix(_PREFIX) for name in names)


def module_of(tensor: str) -> str:
    """The path in the base model of the module that a trainable tensor belongs to."""
    markers = (".lora_", ".modules_to_save.", ".token_adapter.", ".base_layer.")
    path = tensor.removeprefix(_PREFIX)
    ends = [path.find(marker) for marker in markers if marker in path]
    return path[: min(ends)] if ends else path.rpartition(".")[0]


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The adapter in ``folder`` on ``model``, for evaluation."""
    from peft import PeftModel as Peft

    loaded: PeftModel = Peft.from_pretrained(model, str(folder), is_trainable=False).eval()
    return loaded
