"""How a training uses its device's memory: tokens at once, recomputed layers, what is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.training.activation_memory import choose_offload
from runner.training.token_budget import (
    USABLE,
    TokenBudget,
    choose_token_budget,
    gigabytes,
)

if TYPE_CHECKING:
    from runner.recipe import Hardware
    from runner.training.memory_estimate import MemoryEstimate

# Fewer tokens at once than these leave a GPU waiting for launches: below, recomputing layers is
# faster (from the figures of benchmarks/README.md: 0.09 s a part and 46 us a token on one H200,
# and another 28 us for each token that is computed again). A CPU is as fast with one example.
WORTHWHILE_TOKENS = {"cuda": 2048, "cpu": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChoice:
    """What was decided; ``estimate`` counts on it. ``reasons`` are sentences for the user.

    ``recomputed`` layers make their activations again in the backward pass.
    """

    budget: TokenBudget
    recomputed: int
    offload: bool
    estimate: MemoryEstimate
    reasons: tuple[str, ...]


def choose_memory(
    hardware: Hardware,
    estimate: MemoryEstimate,
    *,
    free_bytes: int,
    longest: int,
    step_tokens: int,
) -> MemoryChoice:
    """Decide what ``hardware`` leaves open.

    Args:
        hardware: The recipe's; micro_batch_tokens and activation_* are read.
        estimate: What computing takes, with no layer recomputed.
        free_bytes: Memory that is free once model, adapter and optimizer are there.
        longest: Tokens of the longest example.
        step_tokens: Tokens of the largest optimizer step on this device.
    """
    device = estimate.device
    offload, told = choose_offload(hardware.activation_offload, device)
    if offload:  # what waits outside takes no more here than what is computed again
        estimate = estimate.recomputing(estimate.layers)
    recomputed, why = _recomputed_layers(
        hardware,
        estimate,
        usable_bytes=int(free_bytes * USABLE[device]),
        tokens=_worthwhile(hardware.micro_batch_tokens, device, longest, step_tokens),
    )
    if recomputed:
        estimate = estimate.recomputing(recomputed)
    budget = choose_token_budget(
        hardware.micro_batch_tokens,
        device=device,
        free_bytes=free_bytes,
        estimate=estimate,
        longest=longest,
        step_tokens=step_tokens,
    )
    at_once = f"hardware.micro_batch_tokens: {budget.tokens:,}: {budget.reason}"
    rough = "memory: estimated by width and depth alone, since this model cannot be traced"
    told_all = (at_once, why, told, rough if estimate.rough else None)
    reasons = tuple(text for text in told_all if text is not None)
    return MemoryChoice(
        budget=budget, recomputed=recomputed, offload=offload, estimate=estimate, reasons=reasons
    )


def _worthwhile(wanted: int | str, device: str, longest: int, step_tokens: int) -> int:
    """Tokens that should fit: those the recipe names, or enough not to be slow."""
    enough = wanted if isinstance(wanted, int) else WORTHWHILE_TOKENS[device]
    return max(min(enough, step_tokens), longest)


def _recomputed_layers(
    hardware: Hardware, estimate: MemoryEstimate, *, usable_bytes: int, tokens: int
) -> tuple[int, str | None]:
    """How many layers are recomputed, and a sentence where the machine decided on some."""
    wanted, layers = hardware.activation_checkpointing, estimate.layers
    if wanted is not True and wanted != "auto":
        return 0, None
    if wanted is True:
        if layers == 0:
            raise UsageError(
                "hardware.activation_checkpointing: true, but this model's layers are not known, "
                "so none can be computed again. Write auto or false."
            )
        return layers, None
    without = estimate.computing_bytes(tokens)
    if without <= usable_bytes or layers == 0 or estimate.recomputed:
        return 0, None
    count = next(
        (
            count
            for count in range(1, layers)
            if estimate.recomputing(count).computing_bytes(tokens) <= usable_bytes
        ),
        layers,
    )
    return count, (
        f"hardware.activation_checkpointing: auto is {count} of {layers} layers: {tokens:,} tokens "
        f"at once would take about {gigabytes(without)}, and {gigabytes(usable_bytes)} may be used"
    )
