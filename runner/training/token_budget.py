"""How many tokens are computed at once while training: the recipe's number, or what fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# More tokens at once bring no more speed (benchmarks/training.py), and take more memory.
ENOUGH_TOKENS = {"cuda": 16_384, "cpu": 2048}
# Of the free memory: what the allocator loses between its blocks, and other programs may take.
USABLE = {"cuda": 0.9, "cpu": 0.8}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBudget:
    """Most ``tokens`` of a micro-batch, padding included, and why so many, as a sentence."""

    tokens: int
    reason: str

    def halve(self, computed: int) -> TokenBudget:
        """Half as many tokens as were ``computed`` at once when memory ran out, at least one."""
        tokens = max(min(self.tokens, computed) // 2, 1)
        return TokenBudget(tokens=tokens, reason=f"{computed:,} at once ran out of memory")


class PeakOfTokens(Protocol):
    """What a budget needs to know of memory: see ``memory_estimate.MemoryEstimate``."""

    def computing_bytes(self, tokens: int) -> int:
        """Bytes that computing ``tokens`` at once takes, beside what is there all the time."""
        ...


def planned_tokens(wanted: int | str, *, device: str, longest: int, step_tokens: int) -> int:
    """The budget where memory does not limit it: as many as bring more speed."""
    if isinstance(wanted, int):
        return wanted
    return max(min(step_tokens, ENOUGH_TOKENS[device]), longest)


def choose_token_budget(
    wanted: int | str,
    *,
    device: str,
    free_bytes: int,
    estimate: PeakOfTokens,
    longest: int,
    step_tokens: int,
) -> TokenBudget:
    """The budget of a training.

    Args:
        wanted: ``hardware.micro_batch_tokens``.
        device: ``cuda`` or ``cpu``.
        free_bytes: Memory that is free once model and optimizer are there.
        estimate: Tells what tokens take.
        longest: Tokens of the longest example, which is computed whole.
        step_tokens: Tokens of the largest optimizer step on this device.
    """
    most = planned_tokens(wanted, device=device, longest=longest, step_tokens=step_tokens)
    if isinstance(wanted, int):
        return TokenBudget(tokens=most, reason="as the recipe says")
    fitting = fitting_tokens(estimate, int(free_bytes * USABLE[device]), most=most)
    free = f"of {gigabytes(free_bytes)} of free memory"
    if fitting >= most:
        why = "a whole step" if step_tokens <= most else "more would not be faster"
        taken = f"{gigabytes(estimate.computing_bytes(most))} {free}"
        return TokenBudget(tokens=most, reason=f"{why}; they take about {taken}")
    if fitting >= longest:
        return TokenBudget(tokens=fitting, reason=f"what fits in {USABLE[device]:.0%} {free}")
    needed = f"{gigabytes(estimate.computing_bytes(longest))} {free}"
    return TokenBudget(tokens=longest, reason=f"the longest example alone may take {needed}")


def gigabytes(size: int) -> str:
    """Bytes as a text, two digits at least."""
    billions = size / 1e9
    return f"{billions:.1f} GB" if billions >= 1 else f"{billions:.2g} GB"


def fitting_tokens(estimate: PeakOfTokens, usable_bytes: int, *, most: int) -> int:
    """The largest number of tokens up to ``most`` that takes at most ``usable_bytes``; 0: none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if estimate.computing_bytes(middle) <= usable_bytes:
            low = middle
        else:
            high = middle - 1
    return low
