"""One thing that a self-test tested: how large the difference was, and what is allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

# Of gradients that should be the same, computed in another order: norm of the difference relative
# to the gradient's own, by the dtype of the base model. Rounding was seen to make 1e-6, 1.4e-3 and
# 1.3e-2 in the quickstart's five layers; deeper models add more.
GRADIENT_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# The same of losses, which are sums of many tokens.
LOSS_TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
# Of an adapter that was trained in two sessions, where a GPU adds up in no fixed order.
CONTINUED_TOLERANCE = {"float32": 1e-2, "float16": 5e-2, "bfloat16": 5e-2}
# A tensor whose gradient is this small beside the largest is noise; it counts as this large.
_SMALL = 1e-3


Outcome = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was tested, what was found, what is allowed; all for people.

    ``advice``: what to do where it fails, or why it does not apply.
    """

    name: str
    found: str
    allowed: str
    outcome: Outcome
    advice: str = ""

    @property
    def failed(self) -> bool:
        """Whether what was found is not allowed."""
        return self.outcome == "fail"


def passed(holds: bool) -> Outcome:
    """The outcome of a check that applies."""
    return "pass" if holds else "fail"


def within(name: str, found: float, allowed: float, *, advice: str) -> Check:
    """A check of a relative difference; one that is no number fails."""
    return Check(
        name=name,
        found=f"{found:.2g}",
        allowed=f"at most {allowed:.2g}",
        outcome=passed(found <= allowed),
        advice=advice,
    )


def not_applicable(name: str, reason: str) -> Check:
    """A check that cannot be made here, and why."""
    return Check(name=name, found="-", allowed="-", outcome="not applicable", advice=reason)


def largest_difference(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Of tensors by name: the largest norm of a difference, relative to the norm of the wanted one.

    Infinite where a name is missing on one side, or a difference is no number.
    """
    if found.keys() != wanted.keys():
        return math.inf
    norms = {name: float(tensor.float().norm()) for name, tensor in wanted.items()}
    floor = max(_SMALL * max(norms.values(), default=0.0), 1e-30)
    differences = [
        float((found[name].float() - tensor.float()).norm()) / max(norms[name], floor)
        for name, tensor in wanted.items()
    ]
    if any(map(math.isnan, differences)):  # max() of them would depend on their order
        return math.inf
    return max(differences, default=0.0)
