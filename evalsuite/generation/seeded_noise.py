"""Random numbers that depend on what is drawn, and not on when, beside what, or on which device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), whose
# k-th number is a function of its seed and k. The constants are read as signed 64-bit integers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
# 52 bits and a half: never 0, never 1, and exact in float64.
_BITS = 52


def gumbel_noise(keys: torch.Tensor, step: int, vocabulary: int) -> torch.Tensor:
    """Standard Gumbel noise (B, V) in float64 for the token at ``step`` of each row.

    The largest of logits + noise is a draw from their softmax (Gumbel 1954; Maddison et al. 2014,
    arXiv 1411.0030, section 2). Equal keys give equal noise, so the answers of two models to one
    prompt are drawn with the same luck and their difference is measured the more precisely.

    Args:
        keys: (B,) signed 64-bit integers, one for each row.
        step: How many tokens the rows have already been given.
        vocabulary: V, the number of tokens.
    """
    import torch

    seeds = _mixed(keys + keys.new_tensor(step + 1) * _STEP)  # (B,); the product wraps
    places = torch.arange(1, vocabulary + 1, device=keys.device) * _STEP  # (V,)
    bits = _shifted(_mixed(seeds[:, None] + places), 64 - _BITS)  # (B, V)
    uniform = (bits.double() + 0.5) * 2.0**-_BITS
    return -torch.log(-torch.log(uniform))


def _mixed(numbers: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output function; integer products wrap at 64 bits."""
    numbers = (numbers ^ _shifted(numbers, 30)) * _FIRST
    numbers = (numbers ^ _shifted(numbers, 27)) * _SECOND
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifted right with zeros from the left; torch's own shift repeats the sign."""
    shifted: torch.Tensor = (numbers >> bits) & (2 ** (64 - bits) - 1)
    return shifted
