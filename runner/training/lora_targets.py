"""Which modules of a base model a recipe's ``lora`` block means, and how each of them learns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.base_model.trained_tokens import check_tied, is_tied
from runner.errors import UsageError
from runner.recipe import Lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
_TELL = 12  # names that a message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraTargets:
    """Paths of modules, each in the order of the model.

    ``low_rank`` get an adapter; ``whole`` are trained as they are; of ``token_modules`` (embedding
    and output head) the rows of the trained tokens are. ``tied_whole`` says that one of ``whole``
    is the embedding and the head at once.
    """

    low_rank: tuple[str, ...]
    whole: tuple[str, ...]
    token_modules: tuple[str, ...]
    tied_whole: bool


def find_targets(model: PreTrainedModel, block: Lora, *, quantized: bool = False) -> LoraTargets:
    """The modules of ``model`` that ``block`` means.

    Args:
        model: The base model, or its skeleton.
        block: The recipe's.
        quantized: Whether the checkpoint's linear modules, but for the head, are quantized.

    Raises:
        UsageError: something matches nothing, two keys mean the same module, or a module cannot
            learn in that way. The message lists what there is.
    """
    low_rank = _low_rank(model, block)
    whole = _whole(model, block, quantized=quantized)
    _refuse_overlap(low_rank, whole)
    targets = LoraTargets(
        low_rank=low_rank,
        whole=whole,
        token_modules=_token_modules(model, block, whole),
        tied_whole=is_tied(model) and any(name in whole for name in _ends(model)),
    )
    if block.trained_tokens or targets.tied_whole:
        check_tied(model)
    _check_token_modules(model, targets)
    _check_patterns("rank_pattern", block.rank_pattern, low_rank)
    _check_patterns("alpha_pattern", block.alpha_pattern, low_rank)
    _check_ranks(model, block, low_rank)
    _check_bias(model, block, low_rank)
    return targets


def matches(name: str, wanted: str | Iterable[str]) -> bool:
    """Whether a path matches a regular expression as a whole, or ends in one of several names."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in wanted)


def pattern_value(patterns: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - rank or scale
    """What ``patterns`` (rank_pattern or alpha_pattern) say of the module ``name``, or None."""
    found = [value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)]
    return found[0] if found else None


def is_adaptable(module: Any) -> bool:  # noqa: ANN401 - any torch module, quantized ones included
    """Whether a module multiplies by a matrix that LoRA can stand beside."""
    from transformers.pytorch_utils import Conv1D

    linear = hasattr(module, "in_features") and hasattr(module, "out_features")
    return linear or isinstance(module, Conv1D)


# Low-rank modules


def _low_rank(model: PreTrainedModel, block: Lora) -> tuple[str, ...]:
    adaptable = [name for name, module in model.named_modules() if is_adaptable(module)]
    head = name_of(model, model.get_output_embeddings())
    if block.target_modules == ALL_LINEAR:
        found = [name for name in adaptable if name != head]
    else:
        found = [name for name in adaptable if matches(name, block.target_modules)]
    _check_target_modules(block.target_modules, adaptable, head)
    _refuse_other_modules(model, block)
    kept = [name for name in found if not matches(name, block.exclude_modules)]
    _check_exclude_modules(block.exclude_modules, found, kept)
    return tuple(kept)


def _check_target_modules(
    wanted: str | tuple[str, ...], adaptable: list[str], head: str | None
) -> None:
    """Every name, or the regular expression, must match a module (peft takes partial matches)."""
    leaves = _leaves(name for name in adaptable if name != head)
    if isinstance(wanted, str):
        if wanted == ALL_LINEAR or any(matches(name, wanted) for name in adaptable):
            return
        raise UsageError(
            f"lora.target_modules: the regular expression {wanted!r} matches no module's full "
            f"name (such as {adaptable[0]!r}). Linear modules end in: {leaves}"
        )
    unmatched = [one for one in wanted if not any(matches(name, (one,)) for name in adaptable)]
    if unmatched:
        raise UsageError(
            f"lora.target_modules: {', '.join(map(repr, unmatched))} match no linear module of "
            f"this model. There are: {leaves}"
        )


def _refuse_other_modules(model: PreTrainedModel, block: Lora) -> None:
    """What matches must be linear: an expression that is too wide would match whole layers."""
    if block.target_modules == ALL_LINEAR:
        return
    for name, module in model.named_modules():
        meant = matches(name, block.target_modules) and not matches(name, block.exclude_modules)
        if name and meant and not is_adaptable(module):
            raise UsageError(
                f"lora.target_modules: {block.target_modules!r} matches {name} too, which is a "
                f"{type(module).__name__} and not linear. Make it narrower, or exclude that."
                if isinstance(block.target_modules, str)
                else f"lora.target_modules: a name matches {name} too, which is a "
                f"{type(module).__name__} and not linear. Write more of the path."
            )


def _check_exclude_modules(
    excluded: str | tuple[str, ...], found: list[str], kept: list[str]
) -> None:
    each = (excluded,) if isinstance(excluded, str) else tuple((one,) for one in excluded)
    idle = [one for one in each if not any(matches(name, one) for name in found)]
    if idle:
        names = ", ".join(repr(one if isinstance(one, str) else one[0]) for one in idle)
        raise UsageError(
            f"lora.exclude_modules: {names} excludes nothing: target_modules matches no such "
            f"module. It matches modules that end in: {_leaves(found)}"
        )
    if not kept:
        raise UsageError(
            "lora.exclude_modules: no module is left that could get an adapter. It excludes all "
            "that target_modules matches."
        )


def _check_patterns(key: str, patterns: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Each pattern is about some module, and no module gets two values.

    PEFT takes the first that matches, and orders them anew when it saves them.
    """
    for pattern in patterns:
        if not any(pattern_value({pattern: True}, name) for name in names):
            raise UsageError(
                f"lora.{key}: {pattern!r} matches no module that has an adapter. Those end in: "
                f"{_leaves(names)}"
            )
    for name in names:
        found = [one for one in patterns if pattern_value({one: True}, name)]
        if len({patterns[one] for one in found}) > 1:
            raise UsageError(
                f"lora.{key}: {' and '.join(map(repr, found))} both match {name}, with different "
                "values. Write them so that each module matches one."
            )


def _check_ranks(model: PreTrainedModel, block: Lora, names: tuple[str, ...]) -> None:
    """PiSSA takes singular vectors, of which a matrix has as many as its shorter side."""
    if block.variant != "pissa":
        return
    for name in names:
        rank = pattern_value(block.rank_pattern, name) or block.r
        weight: Any = model.get_submodule(name).weight
        shorter = min(weight.shape)
        if rank > shorter:
            raise UsageError(
                f"lora.r: pissa takes {rank} singular vectors of {name}, which has {shorter}. "
                "Lower r, or write a rank_pattern for it."
            )


def _check_bias(model: PreTrainedModel, block: Lora, names: tuple[str, ...]) -> None:
    if block.bias == "none":
        return
    everywhere = (name for name, _ in model.named_parameters() if name.endswith("bias"))
    beside = (n for n in names if getattr(model.get_submodule(n), "bias", None) is not None)
    if next(everywhere if block.bias == "all" else beside, None) is None:
        where = "this model has" if block.bias == "all" else "the modules with an adapter have"
        raise UsageError(f"lora.bias: {block.bias}, but {where} no bias. Write bias: none.")


# Modules that are trained whole


def _whole(model: PreTrainedModel, block: Lora, *, quantized: bool) -> tuple[str, ...]:
    own = {name: m for name, m in model.named_modules() if name and any(1 for _ in m.parameters())}
    for one in block.modules_to_save:
        if not any(matches(name, (one,)) for name in own):
            raise UsageError(
                f"lora.modules_to_save: {one!r} is no module with weights of this model. There "
                f"are: {_leaves(own)}"
            )
    found = tuple(name for name in own if matches(name, block.modules_to_save))
    _refuse_nested(found)
    head = model.get_output_embeddings()
    for name in found:
        packed = quantized and own[name] is not head
        for part in own[name].modules():
            if (packed and is_adaptable(part)) or _holds_integers(part):
                raise UsageError(
                    f"lora.modules_to_save: {name} is quantized, and such weights cannot be "
                    "trained. Put it under target_modules instead."
                )
    return found


def _refuse_nested(names: tuple[str, ...]) -> None:
    for name in names:
        inside = next((other for other in names if other.startswith(f"{name}.")), None)
        if inside is not None:
            raise UsageError(
                f"lora.modules_to_save: {inside} lies inside {name}, which is trained whole "
                "already. Remove one."
            )


def _holds_integers(module: Any) -> bool:  # noqa: ANN401 - any torch module
    return any(not p.is_floating_point() for p in module.parameters(recurse=False))


def _refuse_overlap(low_rank: tuple[str, ...], whole: tuple[str, ...]) -> None:
    for name in whole:
        both = next((n for n in low_rank if f"{n}.".startswith(f"{name}.")), None)
        if both is not None:
            raise UsageError(
                f"lora.modules_to_save: {name} is trained whole, and target_modules gives {both} "
                "an adapter. Put it under exclude_modules, or remove it here."
            )


# Rows of trained tokens


def _token_modules(model: PreTrainedModel, block: Lora, whole: tuple[str, ...]) -> tuple[str, ...]:
    """The embedding, and the head unless it is the same weight; not what is trained whole."""
    if not block.trained_tokens:
        return ()
    ends = _ends(model)
    if is_tied(model):
        return () if any(name in whole for name in ends) else ends[:1]
    return tuple(name for name in ends if name not in whole)


def _check_token_modules(model: PreTrainedModel, targets: LoraTargets) -> None:
    import torch

    for name in targets.token_modules:
        module = model.get_submodule(name)
        plain = isinstance(module, torch.nn.Embedding | torch.nn.Linear)
        if not plain or getattr(module, "bias", None) is not None:
            raise UsageError(
                f"lora.trained_tokens: rows of {name} cannot be trained: it is quantized or has a "
                "bias. Train it whole with modules_to_save where it is not quantized."
            )
    head = name_of(model, model.get_output_embeddings())
    if targets.token_modules and head in targets.low_rank:
        raise UsageError(
            f"lora.trained_tokens: {head} has an adapter by target_modules, and its rows cannot be "
            "trained beside it. Put it under exclude_modules."
        )


def _ends(model: PreTrainedModel) -> tuple[str, ...]:
    """Paths of the embedding and the output head, where there are such modules."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return tuple(name for end in ends if (name := name_of(model, end)) is not None)


def name_of(model: PreTrainedModel, module: Any) -> str | None:  # noqa: ANN401 - any torch module
    """The path of a module, None where it is no part of ``model``."""
    return next((name for name, other in model.named_modules() if other is module), None)


def _leaves(names: Iterable[str]) -> str:
    found = sorted({name.rpartition(".")[2] for name in names} - {""})
    named = [leaf for leaf in found if not leaf.isdecimal()]
    more = ["…"] if len(named) > _TELL else []
    return ", ".join([*named[:_TELL], *more])
