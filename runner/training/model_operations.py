"""Floating-point operations that training a model on an example takes, whoever computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Per weight of a linear module and token: a multiplication and an addition forward, as many for the
# gradient of its input, and as many again for its own gradient where it is trained.
FORWARD = 2
INPUT_GRADIENT = 2
WEIGHT_GRADIENT = 2
# Per head's dimension and pair of tokens: two products forward (queries by keys, weights by
# values), four backward (the gradient of each factor).
PAIR = 2 * (2 + 4)
_MIXTURES = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOperations:
    """Operations of one training step's forward pass and gradients, without what is repeated.

    ``token``: of every token. ``supervised``: of every token that is learned, in the output head.
    ``pair``: of two tokens of which one attends to the other, in one layer. ``windows``: how many
    layers see so many tokens back, themselves included; None for all that came before.
    """

    token: float
    supervised: float
    pair: float
    windows: Mapping[int | None, int]

    def of_example(self, length: int, supervised: int) -> float:
        """Operations of an example of ``length`` tokens, ``supervised`` of them learned."""
        pairs = sum(layers * attended(length, seen) for seen, layers in self.windows.items())
        return self.token * length + self.supervised * supervised + self.pair * pairs


def attended(length: int, window: int | None) -> int:
    """Pairs of a token and one that it attends to, itself included, in ``length`` tokens."""
    seen = length if window is None else min(length, window)
    return seen * (seen + 1) // 2 + (length - seen) * seen


def count_operations(model: Any) -> ModelOperations | None:  # noqa: ANN401 - with or without peft
    """Count those of a causal model with its adapter; None for one that is not understood.

    Mixtures of experts and layers without attention are not: how much they compute depends on
    the tokens, or on more than the sizes of their matrices.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config.get_text_config()
    windows = _windows(config)
    head = inner.get_output_embeddings()
    if windows is None or head is None or _is_mixture(inner, config):
        return None
    in_head = {id(module) for module in head.modules()}
    unused = _replaced(inner)
    linear = [(id(m) in in_head, _operations_of(m)) for m in inner.modules() if id(m) not in unused]
    return ModelOperations(
        token=sum(operations for is_head, operations in linear if not is_head),
        supervised=sum(operations for is_head, operations in linear if is_head),
        pair=PAIR * config.num_attention_heads * _head_size(config),
        windows=windows,
    )


def _replaced(model: Any) -> set[int]:  # noqa: ANN401 - any model
    """Modules that peft keeps beside their trained copies (``modules_to_save``)."""
    wrappers = (m for m in model.modules() if getattr(m, "modules_to_save", None))
    kept = (m.original_module for m in wrappers if hasattr(m, "original_module"))
    return {id(part) for module in kept for part in module.modules()}


def _operations_of(module: Any) -> int:  # noqa: ANN401 - any module
    """Per token. A module with parts (peft's own, around a linear one) computes nothing itself."""
    if next(module.children(), None) is not None:
        return 0
    sizes = _sizes(module)
    if sizes is None:
        return 0
    weight = getattr(module, "weight", None)
    trained = weight is not None and weight.requires_grad
    each = FORWARD + INPUT_GRADIENT + (WEIGHT_GRADIENT if trained else 0)
    return each * sizes[0] * sizes[1]


def _sizes(module: Any) -> tuple[int, int] | None:  # noqa: ANN401 - any module
    """Inputs and outputs of a linear module, quantized or not, or of GPT-2's ``Conv1D``."""
    for names in (("in_features", "out_features"), ("nx", "nf")):
        found = tuple(getattr(module, name, None) for name in names)
        if all(isinstance(size, int) for size in found):
            return found  # type: ignore[return-value]  # both are numbers: seen a line above
    return None


def _windows(config: Any) -> dict[int | None, int] | None:  # noqa: ANN401 - any configuration
    """How many layers see how far; None where some do not attend, or in another way."""
    window = getattr(config, "sliding_window", None)
    if not isinstance(getattr(config, "num_attention_heads", None), int):
        return None
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        used = window if getattr(config, "use_sliding_window", True) else None
        return {used: config.num_hidden_layers}
    if set(kinds) - {"full_attention", "sliding_attention"}:
        return None
    return dict(Counter(window if kind == "sliding_attention" else None for kind in kinds))


def _head_size(config: Any) -> int:  # noqa: ANN401 - any configuration
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)


def _is_mixture(model: Any, config: Any) -> bool:  # noqa: ANN401 - any model
    """Experts are stacked in tensors of three dimensions, or named in the configuration."""
    named = any(getattr(config, name, None) for name in _MIXTURES)
    matrix = 2
    return named or any(parameter.dim() > matrix for parameter in model.parameters())
