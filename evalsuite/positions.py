"""Rotary positions that depend on the longest example of a batch (transformers' rope types)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalsuite.errors import EvaluationError


def positions_bound(config: Any) -> int | None:  # noqa: ANN401 - any model's configuration
    """The tokens up to which a model turns its positions in one way, and beyond in another.

    None where all examples are turned alike. transformers looks at the longest example of a batch
    (``longrope``: Phi 3 and others): those on both sides must not be computed together.
    """
    bounds = [
        rope.get("original_max_position_embeddings")
        or getattr(config.get_text_config(), "original_max_position_embeddings", None)
        for rope in _ropes(config)
        if rope.get("rope_type") == "longrope"
    ]
    known = [int(bound) for bound in bounds if bound]
    return min(known) if known else None


def check_positions(config: Any, longest: int) -> None:  # noqa: ANN401 - any model's configuration
    """Refuse examples whose loss would depend on which others were computed before.

    Raises:
        EvaluationError: ``longest`` goes beyond what a model with ``dynamic`` positions was
            trained with.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    dynamic = any(rope.get("rope_type") == "dynamic" for rope in _ropes(config))
    if dynamic and limit is not None and longest > limit:
        raise EvaluationError(
            f"an example of {longest:,} tokens is longer than the {limit:,} positions of this "
            "model, whose dynamic rotary positions then depend on what was computed before it. "
            f"Set template.max_length to {limit} at most."
        )


def by_side(
    grouping: Callable[[Sequence[int], int], list[list[int]]],
    lengths: Sequence[int],
    budget: int,
    *,
    bound: int | None,
) -> list[list[int]]:
    """``grouping`` of the examples longer than ``bound`` tokens, then of the others.

    Args:
        grouping: Makes groups of indices of lengths and a budget.
        lengths: In tokens.
        budget: In tokens, for each group.
        bound: Of ``positions_bound``; None for a grouping of all.
    """
    if bound is None:
        return grouping(lengths, budget)
    sides = (
        [index for index, length in enumerate(lengths) if (length > bound) is longer]
        for longer in (True, False)
    )
    return [
        [side[index] for index in group]
        for side in sides
        for group in grouping([lengths[index] for index in side], budget)
    ]


def _ropes(config: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - any model's configuration
    """Rotary parameters: one set, or one for each kind of layer."""
    given = getattr(config.get_text_config(), "rope_parameters", None) or {}
    if "rope_type" in given:
        return [given]
    return [value for value in given.values() if isinstance(value, Mapping)]
